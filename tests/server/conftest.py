"""Jupyter Server's own test fixtures, for this folder only: their event loop and Playwright's do
not go together in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest_jupyter.jupyter_server import *  # noqa: F403

from forge_notebook.recording.uplink import Target


@pytest.fixture  # type: ignore[no-redef]
def jp_server_config() -> dict[str, object]:
    return {
        "ServerApp": {
            "jpserver_extensions": {"forge_notebook": True},
            "allow_unauthenticated_access": False,
        }
    }


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The store of the machine that trains; the server has one of its own."""
    return tmp_path / "here"


@pytest.fixture
def server(jp_serverapp: Any, jp_base_url: str, http_server: Any, http_server_port: Any) -> Target:
    """Where a training elsewhere sends to, with Jupyter's own token."""
    url = f"http://localhost:{http_server_port[-1]}{jp_base_url}"
    return Target(url, jp_serverapp.identity_provider.token)
