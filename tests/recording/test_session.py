"""Recording from any loop."""

from __future__ import annotations

import logging
import math
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forge_notebook as forge
from forge_notebook.core.control import CommandRefused, send_command
from forge_notebook.core.errors import InvalidSessionId, SessionBusy, UnknownSession
from forge_notebook.core.session import SessionState
from forge_notebook.core.wire import TrainingMetrics
from forge_notebook.recording import Session


def rows(session: Session) -> list[tuple[int, int, dict[str, float]]]:
    frame = forge.load(session.id).to_pandas()
    return [
        (row.step, row.model, {n: getattr(row, n) for n in frame.columns[3:]})
        for row in frame.itertuples()
    ]


def test_any_loop_is_recorded_and_read_back() -> None:
    with forge.session("my loop", config={"lr": 0.1}, total_steps=3) as session:
        for step in range(1, 4):
            session.log(step, loss=1.0 / step)
        session.event("checkpoint_saved", path="w.pt")
    history = forge.load(session.id)
    frame = history.to_pandas()
    assert list(frame.columns) == ["step", "time", "model", "loss"]
    assert list(frame.loss) == [1.0, 0.5, 1.0 / 3]
    assert frame.time.is_monotonic_increasing
    assert [m["event"] for m in history.events] == [
        "training_started",
        "checkpoint_saved",
        "training_completed",
    ]
    assert history.status["status"] == "completed"
    assert history.status["config"] == {"lr": 0.1}
    assert history.metrics is not None
    assert history.metrics["overallProgress"] == 100
    assert [s["sessionId"] for s in forge.sessions()] == [session.id]
    assert len(history.figure().data) == 1


def test_steps_count_by_themselves_for_each_model() -> None:
    session = forge.session("s", models=2)
    session.log(loss=1)
    session.log(loss=2)
    session.log(loss=3, model=1)
    session.log(10, loss=4)
    session.log(loss=5)
    assert [(s, m) for s, m, _ in rows(session)] == [(0, 0), (1, 0), (0, 1), (10, 0), (11, 0)]


def test_metrics_asked_for_by_two_threads_are_each_of_one_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = forge.session("two threads")
    session.log(1, loss=1.0)
    computed = SessionState.metrics
    other = threading.Thread(target=session.metrics)
    grew: list[int] = []

    def slow(state: SessionState) -> TrainingMetrics | None:
        if threading.current_thread() is other:
            return computed(state)
        before = state.seq
        session.log(2, loss=0.5, accuracy=0.1)
        other.start()
        other.join(0.2)
        grew.append(state.seq - before)
        return computed(state)

    monkeypatch.setattr(SessionState, "metrics", slow)
    metrics = session.metrics()
    other.join()
    assert grew == [0]
    assert metrics is not None
    assert metrics["currentStep"] == 1


def test_an_exception_is_recorded_and_goes_on() -> None:
    def fails() -> None:
        with forge.session("fails") as session:
            made.append(session)
            session.log(1, loss=1.0)
            _ = 1 / 0

    made: list[Session] = []
    with pytest.raises(ZeroDivisionError):
        fails()
    (session,) = made
    status = forge.load(session.id).status
    assert status["status"] == "failed"
    assert status["error"] == "ZeroDivisionError: division by zero"


def test_an_interrupt_is_a_stop() -> None:
    with pytest.raises(KeyboardInterrupt), forge.session("cut") as session:
        raise KeyboardInterrupt
    assert forge.load(session.id).status["status"] == "stopped"


def test_every_kind_of_number_is_taken() -> None:
    torch = pytest.importorskip("torch")
    session = forge.session("numbers")
    session.log(1, a=1, b=True, c=np.float32(0.5), d=np.array(2.0), e=torch.tensor(3.0))
    session.log(np.int64(2), a=torch.tensor([4.0]), b=math.nan, c=-math.inf, d=10**400, e=0.0)
    (_, _, first), (step, _, second) = rows(session)
    assert first == {"a": 1, "b": 1, "c": 0.5, "d": 2, "e": 3}
    assert step == 2
    assert math.isnan(second["b"])
    assert (second["a"], second["c"], second["d"]) == (4.0, -math.inf, math.inf)


@pytest.mark.parametrize("value", ["high", None, [1.0], object(), np.ones(3), 1 + 2j])
def test_what_is_no_number_is_named(value: Any) -> None:
    session = forge.session("s")
    with pytest.raises(TypeError, match="metric 'loss' is"):
        session.log(1, lr=0.1, loss=value)
    session.log(2, lr=0.1, loss=1.0)
    assert [s for s, *_ in rows(session)] == [2]


@pytest.mark.parametrize(
    ("step", "model", "error"), [("a", 0, TypeError), (1, -1, ValueError), (1 << 63, 0, ValueError)]
)
def test_impossible_steps_and_models_are_refused(step: Any, model: int, error: type) -> None:
    with pytest.raises(error, match="step"):
        forge.session("s").log(step, model=model, loss=1.0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"models": 0}, "models=0"),
        ({"total_steps": -1}, "total_steps=-1"),
        ({"models": 1.5}, "1.5"),
    ],
)
def test_impossible_sessions_are_refused_by_field(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        forge.session("s", **arguments)


def test_commands_of_another_process_reach_the_loop_and_are_answered() -> None:
    session = forge.session("controlled")
    done = threading.Event()

    def loop() -> None:
        step = 0
        while not session.should_stop:
            step += 1
            session.log(step, loss=1.0)
            time.sleep(0.005)
        done.set()

    threading.Thread(target=loop, daemon=True).start()

    def wait_for(status: str) -> None:
        deadline = time.monotonic() + 20
        while forge.load(session.id).status["status"] != status:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    wait_for("running")
    send_command(session.folder, "pause")
    wait_for("paused")
    standing = len(rows(session))
    time.sleep(0.15)
    assert len(rows(session)) == standing
    send_command(session.folder, "resume")
    wait_for("running")
    refused = send_command(session.folder, "set", {"learning_rate": 1})
    send_command(session.folder, "stop")
    assert done.wait(20)
    session.finish("stopped")
    answers = {m["data"]["commandId"]: m["data"] for m in _events(session, "command_ack")}
    assert len(answers) == 4
    assert answers[refused]["ok"] is False
    assert sum(a["ok"] for a in answers.values()) == 3


def _events(session: Session, name: str) -> list[dict[str, Any]]:
    from forge_notebook.core.runlog import EVENT, read_log

    log = read_log(session.folder / "run.log")
    return [r.data for r in log if r.kind == EVENT and r.data["event"] == name]


def test_commands_that_cannot_be_carried_out_are_refused() -> None:
    session = forge.session("s")
    with pytest.raises(CommandRefused, match="pause, resume"):
        session.send_command("jump")
    session.send_command("checkpoint")
    session.finish()
    (answer,) = _events(session, "command_ack")
    assert answer["data"]["ok"] is False
    with pytest.raises(CommandRefused, match="not running"):
        session.send_command("stop")


def test_a_session_can_be_resumed_by_one_writer_only() -> None:
    first = forge.session("first")
    first.log(1, loss=1.0)
    with pytest.raises(SessionBusy):
        forge.session("again", resume=first.id)
    first._writer.abandon()
    again = forge.session("again", resume=first.id)
    again.log(2, loss=0.5)
    again.finish()
    assert [s for s, *_ in rows(again)] == [1, 2]
    assert "resumed" in [m["event"] for m in forge.load(again.id).events]
    with pytest.raises(UnknownSession):
        forge.session("x", resume="nobody")
    with pytest.raises(InvalidSessionId):
        forge.session("x", resume="../x")


def test_a_store_that_cannot_be_written_stops_no_training(
    store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    session = forge.session("s")
    session.log(1, loss=1.0)
    real = os.write

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "write", refuse)
    with caplog.at_level(logging.ERROR):
        for step in range(2, 12):
            session.log(step, loss=1.0)
    monkeypatch.setattr(os, "write", real)
    session.log(12, loss=1.0)
    session.finish()
    assert caplog.text.count("Read-only file system") == 1
    assert forge.load(session.id).status["lost"] == 10
    assert [s for s, *_ in rows(session)] == [1, 12]


def test_names_are_free_text_and_ids_are_not() -> None:
    session = forge.session("<img src=x onerror=alert(1)>\u202e ../../etc")
    assert forge.load(session.id).status["name"] == "<img src=x onerror=alert(1)>\u202e ../../etc"
    assert "/" not in session.id
    assert repr(session) == repr(forge.session(session.name))


def test_callback_metrics_are_the_folded_ones() -> None:
    session = forge.session("s", total_steps=4)
    session.log(1, loss=0.5)
    metrics = session.metrics()
    assert metrics is not None
    assert metrics["overallProgress"] == 25.0
    history = forge.load(session.id).metrics
    assert history is not None
    assert {**history, "timestamp": 0} == {**metrics, "timestamp": 0}
