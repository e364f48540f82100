from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# No timed tests: on a busy machine an example of any property takes longer than 200 ms.
settings.register_profile("forge", deadline=None)
settings.load_profile("forge")

os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
# Doctests have no fixtures: they too must not write to the store of whoever runs them.
os.environ["FORGE_STORE"] = tempfile.mkdtemp(prefix="forge-doctest-")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own: no test touches the sessions of whoever runs it."""
    folder = tmp_path / "store"
    monkeypatch.setenv("FORGE_STORE", str(folder))
    return folder
