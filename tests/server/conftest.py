"""Jupyter Server's own test fixtures, for this folder only: their event loop and Playwright's do
not go together in one process."""

from __future__ import annotations

import pytest
from pytest_jupyter.jupyter_server import *  # noqa: F403


@pytest.fixture  # type: ignore[no-redef]
def jp_server_config() -> dict[str, object]:
    return {
        "ServerApp": {
            "jpserver_extensions": {"forge_notebook": True},
            "allow_unauthenticated_access": False,
        }
    }
