"""Whole trainings as a user runs them: grokking in seconds, text in a minute, and the ETA."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from forge_notebook.bench import Row
from forge_notebook.core.runlog import EVENT, POINTS, Record, read_log
from forge_notebook.core.session import SessionState
from forge_notebook.trainer.cognate import CognateTrainer
from forge_notebook.trainer.config import TrainingConfig

GROKKED_S = 10.0  # from 99 % of the training pairs right to 99 % of those held out
MINUTE = 60.0  # s of training, after which the text run is judged
STEADY = 10.0  # % by which the time of a step may change between a tenth and the end


def measure_runs(*, quick: bool) -> list[Row]:
    """What the demos reach on this machine, with all cores."""
    return [grokking(range(2 if quick else 5)), *text(models=1 if quick else 3)]


def grokking(seeds: range) -> Row:
    """Seconds of delay between memorizing and generalizing, in the default demo."""
    delays = [_delay(_train(TrainingConfig.demo("grok", seed=seed))) for seed in seeds]
    return Row(
        "grokking demo: 99 % held out after 99 % trained", statistics.median(delays), "s",
        goal=GROKKED_S, note=f"median of {len(seeds)} seeds, longest {max(delays):.1f} s",
    )  # fmt: skip


def text(models: int) -> list[Row]:
    """Bits per held-out byte after a minute of the default text run, and its first ETA."""
    config = TrainingConfig.demo("text", model_count=models)
    records = _train(config)
    began = _began(records)
    reached = [
        (found["bits_per_byte"], time - began)
        for time, found in _points(records)
        if "bits_per_byte" in found and time - began <= MINUTE
    ]
    best, after = min(reached)
    marks = records[0].data["config"]["marks"]
    return [
        Row("text demo: bits per byte within 60 s", best, "bit/B", "zlib -9", marks["zlib"],
            goal=marks["zlib"], note=f"after {after:.0f} s; zlib has seen the training text"),
        _eta(records),
    ]  # fmt: skip


def _train(config: TrainingConfig) -> list[Record]:
    with tempfile.TemporaryDirectory() as store:
        trainer = CognateTrainer(config, store=store).fit()
        return list(read_log(Path(store) / trainer.session.id / "run.log"))


def _points(records: list[Record]) -> list[tuple[float, dict[str, float]]]:
    return [
        (r.data.time_ns / 1e9, dict(zip(r.data.names, r.data.values, strict=True)))
        for r in records
        if r.kind == POINTS
    ]


def _began(records: list[Record]) -> float:
    return float(
        next(
            r.data["time"] / 1e9
            for r in records
            if r.kind == EVENT and r.data["event"] == "training_started"
        )
    )


def _delay(records: list[Record]) -> float:
    points = _points(records)
    trained = next(time for time, found in points if found.get("accuracy", 0) >= 0.99)
    return next(time for time, found in points if found.get("val_accuracy", 0) >= 0.99) - trained


def _eta(records: list[Record]) -> Row:
    """How far the first ETA after a tenth of a run was from what was still to come."""
    began, end = _began(records), records[-1].data["time"] / 1e9
    state = SessionState("eta")
    for record in records:
        state.apply(record)
        now = state.last_update
        left = state.remaining()
        if record.kind == POINTS and now - began >= 0.1 * (end - began) and left is not None:
            break
    error = 100 * abs(left / (end - now) - 1)
    drift = _drift(_points(records), now)
    steady = drift <= STEADY
    note = f"a step's time changed by {drift:.0f} %"
    return Row(
        "ETA error after a tenth of the text demo", error, "%", goal=10.0 if steady else None,
        note=note if steady else f"not judged: {note} meanwhile",
    )  # fmt: skip


def _drift(points: list[tuple[float, dict[str, float]]], until: float) -> float:
    """How much the time of a step after `until` differs from that before, %."""
    speeds = [(time, found["tokens_per_s"]) for time, found in points if "tokens_per_s" in found]
    before = [speed for time, speed in speeds if time <= until]
    after = [speed for time, speed in speeds if time > until]
    return 100 * abs(statistics.harmonic_mean(before) / statistics.harmonic_mean(after) - 1)
