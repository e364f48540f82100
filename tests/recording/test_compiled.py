"""``log`` compiled for a loop's metrics means the same as the general one."""

from __future__ import annotations

import keyword
import math
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import forge_notebook as forge
from forge_notebook.core.compiled import compilable
from forge_notebook.core.runlog import EVENT, POINTS, Reader, read_log
from forge_notebook.recording import Session
from forge_notebook.recording.rows import COMPILE_AFTER


def rows(session: Session) -> list[tuple[int, int, dict[str, float]]]:
    return [
        (r.data.step, r.data.model, dict(zip(r.data.names, r.data.values, strict=True)))
        for r in read_log(session.folder / "run.log")
        if r.kind == POINTS
    ]


def compiled(**metrics: Any) -> Session:
    session = forge.session("s")
    for step in range(COMPILE_AFTER):
        session.log(step, **metrics)
    assert "log" in session.__dict__
    return session


NAMES = st.sampled_from(["loss", "lr", "seq", "writer", "frame", "n", "v", "given", "os"])
VALUES = st.one_of(
    st.floats(), st.integers(-(10**400), 10**400), st.booleans(), st.just(np.float32(0.5))
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.sets(NAMES, min_size=1, max_size=5),
    calls=st.lists(st.dictionaries(NAMES, VALUES, max_size=6), max_size=8),
)
def test_it_records_what_the_general_way_records(
    store: Path, names: set[str], calls: list[dict[str, Any]]
) -> None:
    general = forge.session("general")
    general.log = general.log  # type: ignore[method-assign]
    fast = compiled(**dict.fromkeys(names, 1.0)) if names else forge.session("s")
    for step in range(COMPILE_AFTER if names else 0):
        general.log(step, **dict.fromkeys(names, 1.0))  # type: ignore[arg-type]
    for step, call in enumerate(calls):
        for session in (general, fast):
            session.log(100 + step, model=step % 3, **call)
    assert [(s, m, repr(sorted(r.items()))) for s, m, r in rows(fast)] == [
        (s, m, repr(sorted(r.items()))) for s, m, r in rows(general)
    ]
    for session in (general, fast):
        session.finish()


def test_steps_go_on_counting_by_themselves() -> None:
    session = compiled(loss=1.0)
    session.log(50, loss=2.0)
    session.log(loss=3.0)
    session.log(loss=4.0, model=2)
    assert [(s, m) for s, m, _ in rows(session)[-3:]] == [(50, 0), (51, 0), (0, 2)]


@pytest.mark.parametrize("value", ["high", None, [1.0], np.ones(3), 1j])
def test_what_is_no_number_is_named_all_the_same(value: Any) -> None:
    session = compiled(loss=1.0, lr=0.1)
    with pytest.raises(TypeError, match="metric 'loss' is"):
        session.log(99, lr=0.1, loss=value)
    with pytest.raises(ValueError, match="step"):
        session.log(1 << 63, loss=1.0, lr=0.1)
    with pytest.raises(ValueError, match="model"):
        session.log(1, model=-1, loss=1.0, lr=0.1)
    session.log(100, lr=0.1, loss=10**400)
    assert rows(session)[-1] == (100, 0, {"loss": math.inf, "lr": 0.1})


def test_a_paused_or_ended_session_takes_the_general_way() -> None:
    session = compiled(loss=1.0)
    session.event("paused")
    session.log(50, loss=1.0)
    assert session.status == "paused"
    session.finish()
    session.log(51, loss=1.0)
    assert [s for s, *_ in rows(session)][-1] == 50


def test_a_log_of_the_users_own_is_left_alone() -> None:
    class Mine(Session):
        def log(self, step: int | None = None, *, model: int = 0, **metrics: Any) -> None:
            seen.append(step)
            super().log(step, model=model, **metrics)

    seen: list[int | None] = []
    session = Mine("mine")
    for step in range(3 * COMPILE_AFTER):
        session.log(step, loss=1.0)
    assert len(seen) == len(rows(session)) == 3 * COMPILE_AFTER


def test_a_log_bound_before_it_was_compiled_is_fast_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = forge.session("s")
    log = session.log
    for step in range(COMPILE_AFTER):
        log(step, loss=1.0)
    monkeypatch.setattr(session._rows, "_append_point", None)  # the general way would fail
    for step in range(COMPILE_AFTER, 3 * COMPILE_AFTER):
        log(step, loss=float(step))
    assert [s for s, *_ in rows(session)] == list(range(3 * COMPILE_AFTER))


def test_only_names_that_can_be_parameters_are_compiled() -> None:
    for name in ("val/loss", "", "1st", "_x", "step", "model", "OSError", *keyword.kwlist):
        assert not compilable(("loss", name))
    session = forge.session("s")
    for step in range(2 * COMPILE_AFTER):
        session.log(step, **{"val/loss": 1.0})  # type: ignore[arg-type]
    assert "log" not in session.__dict__
    assert rows(session)[-1][2] == {"val/loss": 1.0}


def test_threads_share_one_order() -> None:
    session = compiled(loss=1.0)

    def loop(model: int) -> None:
        for step in range(1000):
            session.log(step, model=model, loss=float(step))

    threads = [threading.Thread(target=loop, args=(model,)) for model in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = Reader(session.folder / "run.log")
    records = [r for r in reader.read() if r.kind == POINTS]
    assert reader.lost == 0
    for model in range(1, 5):
        assert [r.data.step for r in records if r.data.model == model] == list(range(1000))


def test_a_signal_handler_may_log_while_a_log_is_under_way() -> None:
    import signal

    session = compiled(loss=1.0)
    signal.signal(signal.SIGALRM, lambda *_: session.event("checkpoint_saved", path="x"))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for step in range(20_000):
            session.log(step, loss=1.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert [s for s, *_ in rows(session)][COMPILE_AFTER:] == list(range(20_000))


@pytest.mark.parametrize("first", ["event", "row"])
@pytest.mark.parametrize("then", ["event", "row"])
def test_what_a_handler_records_right_after_a_write_comes_after_it_and_once(
    monkeypatch: pytest.MonkeyPatch, first: str, then: str
) -> None:
    session = compiled(loss=1.0)

    def record(kind: str, step: int) -> None:
        if kind == "event":
            session.event("checkpoint_saved", step=step, path="x")
        else:
            session.log(step, loss=1.0)

    depth = 0
    write = os.write

    def interrupted(fd: int, frame: bytes) -> int:
        """Three handlers, each in the middle of the one before."""
        nonlocal depth
        written = write(fd, frame)
        if depth < 3:
            depth += 1
            record(then, 100 + depth)
        return written

    monkeypatch.setattr(os, "write", interrupted)
    record(first, 100)
    record(first, 104)
    steps = []
    for r in read_log(session.folder / "run.log"):
        if r.kind == POINTS:
            steps.append(r.data.step)
        elif r.kind == EVENT and r.data["event"] == "checkpoint_saved":
            steps.append(r.data["step"])
    assert [step for step in steps if step >= 100] == [100, 101, 102, 103, 104]


def test_what_a_signal_handler_raises_doubles_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = compiled(loss=1.0)
    write = os.write

    def interrupted(fd: int, frame: bytes) -> int:
        write(fd, frame)
        raise LookupError("of the handler")

    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(LookupError):
        session.log(16, loss=1.0)
    with pytest.raises(LookupError):
        session.event("checkpoint_saved", step=16, path="x")
    monkeypatch.undo()
    session.log(17, loss=1.0)
    session.event("checkpoint_saved", step=17, path="x")
    assert [step for step, *_ in rows(session)][COMPILE_AFTER:] == [16, 17]
    events = [r.data for r in read_log(session.folder / "run.log") if r.kind == EVENT]
    assert [e["step"] for e in events if e["event"] == "checkpoint_saved"] == [16, 17]
