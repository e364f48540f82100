"""The fold: statuses, progress, time, and SPEC's formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge_notebook.core.errors import InvalidTransition
from forge_notebook.core.runlog import EVENT, POINTS, SESSION, Point, Record
from forge_notebook.core.session import SessionState
from forge_notebook.core.status import Status, check_move


class Log:
    """Records by hand, with a clock of its own."""

    def __init__(self, **session: Any) -> None:
        self.state = SessionState("s")
        self.now = 1000.0
        self.seq = 0
        self.put(SESSION, {"time": self.ns, "name": "n", "models": 1, "totalSteps": 100} | session)

    @property
    def ns(self) -> int:
        return round(self.now * 1e9)

    def put(self, kind: int, data: Any) -> None:
        self.seq += 1
        self.state.apply(Record(self.seq, kind, data))

    def event(self, event: str, **data: Any) -> None:
        self.put(EVENT, {"event": event, "time": self.ns, "data": data})

    def point(self, step: int, model: int = 0, **metrics: float) -> None:
        self.put(POINTS, Point(self.ns, step, model, tuple(metrics), tuple(metrics.values())))

    @property
    def metrics(self) -> dict[str, Any]:
        metrics = self.state.metrics()
        assert metrics is not None
        return dict(metrics)


def test_specs_formulas() -> None:
    log = Log()
    log.event("training_started")
    log.point(25, loss=1.23456)
    assert log.metrics["loss"] == 1.2346
    assert log.metrics["perplexity"] == round(math.exp(1.23456), 2)
    assert log.metrics["grokProgress"] == round((2 - 1.23456) / 2 * 100, 1)
    assert log.metrics["extra"]["grokMethod"] == "loss"
    assert log.metrics["overallProgress"] == 25.0
    log.point(26, loss=1000.0)
    assert log.metrics["perplexity"] == round(math.exp(10), 2)
    assert log.metrics["grokProgress"] == 0


def test_with_validation_only_the_rank_measure_counts() -> None:
    log = Log()
    log.point(1, loss=0.0, val_loss=5.0)
    assert log.metrics["grokProgress"] is None
    log.point(2, rank_val=0.421)
    assert log.metrics["grokProgress"] == 42.1
    assert log.metrics["extra"]["grokMethod"] == "rank"
    log.point(3, rank_val=math.nan)
    assert log.metrics["grokProgress"] is None


@pytest.mark.parametrize("name", ["val/loss", "eval_loss", "test_accuracy", "valid", "valLoss"])
def test_whatever_was_held_out_ends_the_measure_that_knows_the_loss_only(name: str) -> None:
    log = Log()
    log.point(1, loss=0.5, value_loss=1.0)
    assert log.metrics["grokProgress"] == 75
    held_out: dict[str, Any] = {name: 0.5}
    log.point(2, **held_out)
    assert log.metrics["grokProgress"] is None


def test_nan_loss_is_null_everywhere_and_named() -> None:
    log = Log()
    log.point(1, loss=math.nan)
    assert log.metrics["loss"] is None
    assert log.metrics["perplexity"] is None
    assert log.metrics["grokProgress"] is None
    assert log.metrics["nonFinite"] == {"loss": "NaN"}


def test_each_model_counts_the_same_and_the_end_is_exactly_100() -> None:
    log = Log(models=3, totalSteps=7)
    log.event("training_started")
    for model in range(3):
        for step in range(1, 7):  # the last step is never logged
            log.point(step, model, loss=1.0)
        log.event("model_completed", modelIndex=model)
        assert log.metrics["overallProgress"] == round(100 * (model + 1) / 3, 1)
    log.event("training_completed")
    assert log.metrics["overallProgress"] == 100
    assert log.metrics["estimatedTimeRemaining"] == 0


def test_a_completed_session_is_at_100_even_where_a_model_never_began() -> None:
    log = Log(models=2, totalSteps=None)
    log.point(3, loss=1.0)
    assert log.metrics["overallProgress"] is None
    log.event("training_completed")
    assert log.metrics["overallProgress"] == 100


def test_pauses_are_not_training_time_and_do_not_move_the_eta() -> None:
    log = Log()
    log.event("training_started")
    for step in range(1, 51):
        log.now += 2
        log.point(step, loss=1.0)
    assert log.metrics["trainingTime"] == 100.0
    assert log.metrics["estimatedTimeRemaining"] == pytest.approx(100, rel=0.05)
    log.event("paused")
    log.now += 5000
    log.event("resumed")
    log.now += 2
    log.point(51, loss=1.0)
    assert log.metrics["trainingTime"] == 102.0
    assert log.metrics["estimatedTimeRemaining"] == pytest.approx(98, rel=0.05)


def test_eta_holds_evaluations_and_checkpoints() -> None:
    log = Log(totalSteps=1000)
    log.event("training_started")
    for step in range(1, 101):
        log.now += 0.1 + (2.0 if step % 20 == 0 else 0)  # every 20th step evaluates for 2 s
        log.point(step, loss=1.0)
    assert log.metrics["estimatedTimeRemaining"] == pytest.approx(900 * 0.2, rel=0.1)


def test_a_clock_set_back_does_not_take_back_time() -> None:
    log = Log()
    log.event("training_started")
    for step in range(1, 20):
        log.now += 1
        log.point(step, loss=1.0)
    log.now -= 3600
    log.point(20, loss=1.0)
    assert log.metrics["trainingTime"] == 19.0
    assert log.metrics["estimatedTimeRemaining"] >= 0


def test_nothing_is_made_up_before_it_is_known() -> None:
    log = Log(totalSteps=None)
    assert log.state.metrics() is None
    log.point(1, accuracy=0.5)
    for field in ("loss", "perplexity", "grokProgress", "modelParams", "totalSteps"):
        assert log.metrics[field] is None
    assert log.metrics["overallProgress"] is None
    assert log.metrics["estimatedTimeRemaining"] is None


def test_a_resumed_session_goes_on_where_it_was() -> None:
    log = Log()
    log.event("training_started")
    log.now += 10
    log.point(10, loss=1.0)
    log.now += 1000  # the process died here
    log.put(SESSION, {"time": log.ns, "name": "n", "models": 1, "totalSteps": 100})
    log.event("resumed")
    assert log.state.status is Status.RUNNING
    log.now += 1
    log.point(11, loss=1.0)
    assert log.metrics["trainingTime"] == 11.0


@pytest.mark.parametrize(
    ("now", "event"),
    [
        (Status.COMPLETED, "training_started"),
        (Status.COMPLETED, "paused"),
        (Status.FAILED, "training_completed"),
        (Status.CREATED, "paused"),
    ],
)
def test_impossible_transitions_raise_for_the_writer(now: Status, event: str) -> None:
    with pytest.raises(InvalidTransition, match=event):
        check_move(now, event)


def test_parameters_counted_as_a_float_are_shown() -> None:
    log = Log()
    log.event("model_started", modelIndex=0, params=25e6)
    assert log.state.wire(alive=True)["models"][0]["params"] == 25e6


EVENTS = st.sampled_from(
    ["training_started", "paused", "resumed", "training_completed", "training_failed", "odd",
     "model_started", "model_completed"]
)  # fmt: skip
VALUES = st.one_of(st.none(), st.integers(-2, 4), st.just(70_000), st.floats(), st.text(max_size=2))
DATA = st.dictionaries(st.sampled_from(["modelIndex", "name", "params", "totalSteps"]), VALUES)
ROWS = st.tuples(st.integers(-5, 200), st.floats(width=32))


@given(st.lists(st.one_of(st.tuples(EVENTS, DATA), ROWS)))
def test_no_log_however_odd_breaks_a_reader(steps: list[Any]) -> None:
    log = Log()
    for step in steps:
        if isinstance(step[0], str):
            log.event(step[0], **step[1])
        else:
            log.now += 0.5
            log.point(step[0], loss=step[1])
    assert len(log.state.models) <= 5
    wire = log.state.wire(alive=True)
    progress = (wire["metrics"] or {}).get("overallProgress")
    assert progress is None or 0 <= progress <= 100
