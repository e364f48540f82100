"""Mirrors: a late copy of everything, which never holds the training up."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import forge_notebook as forge
from forge_notebook.core.errors import ForgeError
from forge_notebook.integrations import mirror as mirrors
from forge_notebook.integrations.formats.run import Row
from forge_notebook.integrations.mirror import mirror


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "INTERVAL_S", 0.02)


class Sink:
    def __init__(self) -> None:
        self.got: list[Row] = []
        self.ended = ""
        self.gate = threading.Event()
        self.gate.set()

    def open(self, session: dict[str, Any]) -> None:
        self.name = session["name"]

    def rows(self, rows: list[Row]) -> None:
        self.gate.wait()
        self.got += rows

    def close(self, status: str) -> None:
        self.ended = status


def test_a_stuck_sink_delays_no_log_and_gets_every_row_in_the_end() -> None:
    sink = Sink()
    sink.gate.clear()
    with forge.session("stuck") as session:
        copy = mirror(session, sink)
        start = time.monotonic()
        for step in range(2000):
            session.log(step, loss=float(step))
        assert time.monotonic() - start < 5
    assert copy.sent == 0
    sink.gate.set()
    assert copy.wait(10)
    assert [row.metrics["loss"] for row in sink.got] == list(range(2000))
    assert (sink.name, sink.ended) == ("stuck", "completed")


def test_a_sink_that_fails_is_told_and_the_recording_goes_on() -> None:
    class Broken(Sink):
        def rows(self, rows: list[Row]) -> None:
            raise OSError("no route")

    session = forge.session("broken")
    session.log(1, loss=1.0)
    copy = mirror(session, Broken())
    assert copy.wait(10)
    session.log(2, loss=0.5)
    session.finish()
    history = forge.load(session.id)
    assert len(history.to_pandas()) == 2
    (alert,) = (e for e in history.events if e["event"] == "alert")
    assert alert["data"] == {"kind": "mirror_failed", "message": "OSError: no route"}


def test_the_tensorboard_mirror_is_what_import_reads(tmp_path: Path) -> None:
    with forge.session("live") as session:
        copy = mirror(session, "tensorboard", str(tmp_path))
        for step in range(50):
            session.log(step, loss=1.0 / (step + 1))
        deadline = time.monotonic() + 10
        while copy.sent < 50 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert copy.sent == 50  # while the session still runs
    assert copy.wait(10)
    (back,) = forge.import_runs(tmp_path)
    assert back.to_pandas().loss.tolist() == [1.0 / (step + 1) for step in range(50)]


def test_an_unknown_mirror_is_refused() -> None:
    with forge.session("x") as session, pytest.raises(ForgeError, match="there are tensorboard"):
        mirror(session, "excel")
