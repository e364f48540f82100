"""Alerts on real recorded curves (tests/fixtures/curves/record.py), and how they are told."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forge_notebook.core import losswatch
from forge_notebook.core.alerts import Alert, StallWatch, Watch, watches
from forge_notebook.core.follower import Follower
from forge_notebook.core.runlog import EVENT, POINTS, SESSION, Point, Record, Writer
from forge_notebook.core.session import SessionState

CURVES = Path(__file__).parent.parent / "fixtures" / "curves" / "curves.npz"


@cache
def curves() -> dict[str, list[float]]:
    with np.load(CURVES) as file:
        return {name: file[name].tolist() for name in file.files}


def alerts_of(values: list[float], metric: str = "loss") -> list[Alert]:
    state, found = SessionState("s"), []
    for step, value in enumerate(values):
        point = Point(step * 10**9, step, 0, (metric,), (value,))
        state.apply(Record(step + 1, POINTS, point))
        if state.alert is not None:
            found.append(state.alert)
    return found


def named(kind: str) -> list[str]:
    names = [name for name in curves() if name.startswith(kind)]
    assert len(names) >= 4
    return names


HEALTHY = ["healthy text, cosine", "healthy text, small", "healthy modular", "healthy regression"]


@pytest.mark.parametrize("family", HEALTHY)
def test_healthy_runs_give_no_alarm(family: str) -> None:
    found = {name: alerts_of(curves()[name]) for name in named(family)}
    alarms = {n: [a for a in f if a.level != "info"] for n, f in found.items()}
    assert alarms == {name: [] for name in alarms}  # 0 false alarms in 19,600 rows of 16 runs
    assert [a for f in found.values() for a in f if a.kind == "plateau"] == []


def test_a_corrupt_batch_is_a_spike_and_no_divergence() -> None:
    for name in named("spike"):
        at = int(name.split(" at ")[1].split()[0])
        found = [a for a in alerts_of(curves()[name]) if a.level != "info"]
        assert [(a.kind, a.step) for a in found] == [("spike", at)], name


def test_a_rate_far_too_high_is_a_divergence_told_once() -> None:
    for name in named("divergence"):
        found = [a for a in alerts_of(curves()[name]) if a.kind == "divergence"]
        (alert,) = found
        assert alert.step is not None
        assert 400 <= alert.step <= 400 + 2 * losswatch.WINDOW, name
        assert alert.level == "error"


@pytest.mark.parametrize("value", [1e160, 1.7e308])
def test_a_loss_whose_square_is_no_number_is_a_spike_and_stops_no_viewer(value: float) -> None:
    found = alerts_of([1.0, 1.01] * 50 + [value, value] + [1.0, 1.01] * 100)
    assert found[0].kind == "spike"
    assert len(found) <= 3


def test_an_overflow_is_not_finite_once() -> None:
    for name in named("not finite"):
        values = curves()[name]
        first = next(i for i, v in enumerate(values) if not math.isfinite(v))
        found = [a for a in alerts_of(values) if a.kind == "non_finite"]
        assert [a.step for a in found] == [first]
        assert found[0].message in ("loss is NaN", "loss is infinite")


def test_a_run_with_only_noise_left_is_a_plateau() -> None:
    for name in named("plateau"):
        found = alerts_of(curves()[name])
        assert [a.kind for a in found] == ["plateau"], name


def test_validation_losses_and_other_metrics_are_not_watched_as_training_losses() -> None:
    assert watches("loss")
    assert watches("train_loss")
    assert watches("policy_loss")
    assert watches("value_loss")
    assert not watches("val_loss")
    assert not watches("eval_loss")
    assert not watches("test/loss")
    assert not watches("lr")
    (spiked, *_) = named("spike")
    assert alerts_of(curves()[spiked], "val_loss") == []


def test_a_metric_that_never_was_finite_is_no_news() -> None:
    assert alerts_of([math.nan] * 5, "auc") == []
    assert [a.kind for a in alerts_of([0.5, math.nan, math.nan], "auc")] == ["non_finite"]


@pytest.mark.parametrize("step_s", [0.001, 0.2, 6.0])
def test_a_stall_is_ten_usual_intervals_twice_the_longest_gap_and_half_a_minute(
    step_s: float,
) -> None:
    watch = StallWatch()
    assert not any(watch.add(step_s) for _ in range(100))
    assert not watch.add(8 * step_s)  # an evaluation
    limit = max(10 * step_s, 16 * step_s, 30.0)
    assert watch.limit_s == pytest.approx(limit)
    assert not watch.add(limit * 0.99)
    assert watch.add(limit * 3)
    assert not watch.add(-5.0)


def log(folder: Path, values: list[float], step_s: float = 0.1) -> Writer:
    folder.mkdir()
    writer = Writer(folder / "run.log")
    start = 1_700_000_000_000_000_000
    writer.append_json(SESSION, {"id": folder.name, "time": start, "models": 1})
    event: dict[str, Any] = {"event": "training_started", "time": start, "data": {}}
    writer.append_json(EVENT, event)
    for step, value in enumerate(values):
        time_ns = start + round(step * step_s * 1e9)
        writer.append_point(step, 0, {"loss": value, "lr": 0.1}, time_ns)
    return writer


def test_live_and_late_viewers_get_the_same_alerts_and_every_point_once(tmp_path: Path) -> None:
    values = curves()[named("spike")[0]]
    values = [*values[:450], math.nan, math.inf, *values[450:]]
    writer = log(tmp_path / "s", values)
    live, late = Follower(tmp_path / "s"), Follower(tmp_path / "s")
    told: list[tuple[str, dict[str, Any]]] = []
    while live.read(37):
        told += live.messages()
    late.load()
    mine = [data["id"] for event, data in told if event == "alert"]
    marks = [m["data"]["id"] for m in late.status()["marks"] if m["event"] == "alert"]
    again = [data["id"] for event, data in late.since(0, late.sent) if event == "alert"]
    assert mine == marks == again
    assert [i.split("-")[0] for i in mine] == ["spike", "non_finite"]
    seqs: list[int] = []
    cursor = 0
    for _, data in told:
        assert data["fromSeq"] == cursor
        assert data["seq"] > cursor
        cursor = data["seq"]
        seqs += [seq for block in data.get("series", []) for seq in block["seq"]]
    assert len(seqs) == len(set(seqs)) == len(values)
    writer.close()


def test_two_alerts_of_one_row_are_told_one_after_the_other(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    writer = log(folder, [1.0, 0.9])
    writer.append_point(2, 0, {"loss": math.nan, "lr": math.nan})
    writer.append_point(3, 0, {"loss": 1.0, "lr": 0.1})
    follower = Follower(folder)
    follower.read()
    found = [d for e, d in follower.messages() if e == "alert"]
    assert [(d["metric"], d["step"]) for d in found] == [("loss", 2), ("lr", 2)]
    assert found[0]["seq"] < found[1]["seq"]
    writer.close()


def test_a_stall_is_shown_while_it_lasts_and_stays_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = log(tmp_path / "s", [1.0] * 40)
    follower = Follower(tmp_path / "s")
    follower.load()
    assert follower.died() is None
    monkeypatch.setattr(follower, "_heard", follower._heard - 31)
    message = follower.died()
    assert message is not None
    (during,) = [m for m in message[1]["marks"] if m["event"] == "alert"]
    assert during["data"]["kind"] == "stall"
    assert follower.died() is None  # told once
    writer.append_point(40, 0, {"loss": 1.0, "lr": 0.1}, 1_700_000_000_000_000_000 + 60 * 10**9)
    follower.read()
    (after,) = [m for m in follower.status()["marks"] if m["event"] == "alert"]
    assert after["data"] == during["data"]
    assert after["seq"] == during["seq"]
    writer.close()
    assert follower.died() is not None  # interrupted


def test_the_onset_of_grokking_is_told_once_per_model() -> None:
    watch = Watch()
    found = [
        said[0]
        for step in range(5)
        for model in (0, 1)
        for _, said in watch.model(model).onset(3 if model and step > 2 else None)
    ]
    assert found == ["grokking"]
