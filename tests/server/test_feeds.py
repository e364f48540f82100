"""What the server keeps in memory of sessions that nobody watches, and beside them on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge_notebook.core import index
from forge_notebook.recording import Session
from forge_notebook.server import hub as module
from forge_notebook.server.hub import Hub
from tests.server.test_turns import Watcher, until


async def test_a_session_nobody_watches_leaves_memory_and_an_index_though_a_panel_is_open(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_S", 0.3)
    monkeypatch.setattr(index, "WORTH_BYTES", 2000)
    hub, session, other = Hub(store), Session("run"), Session("other")
    watcher, panel = Watcher(), Watcher()
    await hub.subscribe_list(panel)
    await hub.subscribe(watcher, session.id)
    await hub.subscribe(panel, other.id)
    for step in range(100):
        session.log(step, loss=float(step))
    session.finish()
    await until(lambda: len(watcher.losses) == 100)
    assert not (session.folder / index.NAME).exists()

    hub.unsubscribe(watcher, session.id)
    await until(lambda: hub.counters()["sessionsInMemory"] == 1)  # the other one is watched
    await until((session.folder / index.NAME).exists)
    found = index.read(session.folder / "run.log")
    assert found is not None
    assert found.offset == (session.folder / "run.log").stat().st_size

    await hub.subscribe(again := Watcher(), session.id)
    assert len(again.losses) == 100
    assert hub.counters()["sessionsInMemory"] == 2
    await hub.stop()
    other.finish()
