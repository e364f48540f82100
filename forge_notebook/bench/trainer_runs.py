"""Whole trainings as a user runs them: grokking in seconds, text in a minute, and the ETA."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forge_notebook.bench import Row
from forge_notebook.core.runlog import EVENT, POINTS, Record, read_log
from forge_notebook.core.session import SessionState
from forge_notebook.trainer.cognate import CognateTrainer
from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.data import TextData, load_data

GROKKED_S = 10.0  # from 99 % of the training pairs right to 99 % of those held out
MINUTE = 60.0  # s of the text run
WARM_UP, CALIBRATION = 20, 60  # steps; between the two it is measured how many fit
SHARE = 0.95  # of the time for steps and evaluations; checkpoints are the rest
ETA_ERROR = 10.0  # %
QUIET = 0.9  # of one core, which this process must have got; else the machine is too busy to judge


@dataclass(frozen=True)
class Trained:
    """What a training recorded, and how many cores it had on average."""

    records: list[Record]
    cores: float

    @property
    def quiet(self) -> bool:
        """Whether its times say something about the trainer."""
        return self.cores >= QUIET

    def points(self) -> Iterator[tuple[float, dict[str, float]]]:
        """The time in s since the start, and the values of each row."""
        began = self.event("training_started")
        for record in self.records:
            if record.kind == POINTS:
                data = record.data
                found = dict(zip(data.names, data.values, strict=True))
                yield data.time_ns / 1e9 - began, found

    def event(self, name: str) -> float:
        """When the first event of that name happened, s since the epoch."""
        events = (r.data for r in self.records if r.kind == EVENT and r.data["event"] == name)
        return float(next(events)["time"]) / 1e9


def train(config: TrainingConfig) -> Trained:
    """Train to the end, in a store of its own."""
    wall, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as store:
        session = CognateTrainer(config, store=store).fit().session
        cores = (time.process_time() - cpu) / (time.perf_counter() - wall)
        return Trained(list(read_log(Path(store) / session.id / "run.log")), cores)


def measure_runs(*, quick: bool) -> list[Row]:
    """What the demos reach on this machine, with all its cores."""
    return [grokking(range(1 if quick else 5)), *text(MINUTE / 3 if quick else MINUTE)]


def grokking(seeds: range) -> Row:
    """Seconds between memorizing and generalizing, in the default demo."""
    runs = [train(TrainingConfig.demo("grok", seed=seed)) for seed in seeds]
    delays = [_first(run, "val_accuracy") - _first(run, "accuracy") for run in runs]
    return Row(
        "grokking demo: 99 % held out after 99 % trained", statistics.median(delays), "s",
        goal=GROKKED_S if all(run.quiet for run in runs) else None,
        note=f"median over {len(seeds)}, longest {max(delays):.1f} s{_busy(*runs)}",
    )  # fmt: skip


def _first(run: Trained, name: str) -> float:
    return next(at for at, found in run.points() if found.get(name, 0.0) >= 0.99)


def text(seconds: float) -> list[Row]:
    """Bits per held-out byte after so long a run of the text demo, and its ETA after a tenth."""
    config = TrainingConfig.demo("text", model_count=1, max_steps=CALIBRATION)
    times = [at for at, found in train(config).points() if "loss" in found]
    warm = WARM_UP // config.progress_update_interval  # the first row is of step 1
    per_step = (times[-1] - times[warm]) / (CALIBRATION - WARM_UP)
    steps = max(CALIBRATION, int(SHARE * seconds / per_step))
    run = train(TrainingConfig.demo("text", model_count=1, max_steps=steps))
    reached = [
        (at, found["bits_per_byte"]) for at, found in run.points() if "bits_per_byte" in found
    ]
    in_time = [found for found in reached if found[0] <= seconds]
    after, bits = (in_time or reached[:1])[-1]  # a busy machine may not get to its first
    zlib_alone, zlib_knowing = _zlib()
    return [
        Row(f"text demo: bits per byte in {seconds:.0f} s", bits, "bit/B", "zlib -9", zlib_alone,
            goal=zlib_alone if run.quiet and seconds >= MINUTE else None,
            note=f"after {after:.0f} s; zlib that has seen the training text {zlib_knowing:.2f}"
                 f"{_busy(run)}"),
        _eta(run),
    ]  # fmt: skip


def _zlib() -> tuple[float, float]:
    """Bits per held-out byte of `zlib -9`: of that text alone, and having seen the other."""
    data = load_data(TrainingConfig.demo("text"))
    assert isinstance(data, TextData)
    held_out = data.held_out_text
    return 8 * len(zlib.compress(held_out, 9)) / len(held_out), data.marks()["zlib"]


def _eta(run: Trained) -> Row:
    """How far the ETA after a tenth of a run was from what was still to come."""
    began, end = run.event("training_started"), run.event("model_completed")
    state, left, now = SessionState("eta"), None, began
    for record in run.records:
        state.apply(record)
        now, left = state.last_update, state.remaining()
        if record.kind == POINTS and now - began >= 0.1 * (end - began) and left is not None:
            break
    assert left is not None
    change = _change(run, now - began)
    steady = run.quiet and change <= ETA_ERROR
    return Row(
        "ETA error after a tenth of the text demo", 100 * abs(left / (end - now) - 1), "%",
        goal=ETA_ERROR if steady else None,
        note=f"a step's time changed by {change:.0f} % after it"
             f"{'' if steady else ': not judged, not a steady run'}",
    )  # fmt: skip


def _change(run: Trained, until: float) -> float:
    """How much the time of a step after `until` differs from that before, %."""
    speeds = [(at, found["tokens_per_s"]) for at, found in run.points() if "tokens_per_s" in found]
    before = [speed for at, speed in speeds if at <= until]
    after = [speed for at, speed in speeds if at > until]
    if not before or not after:
        return math.inf
    return 100 * abs(statistics.harmonic_mean(before) / statistics.harmonic_mean(after) - 1)


def _busy(*runs: Trained) -> str:
    cores = min(run.cores for run in runs)
    return "" if cores >= QUIET else f"; not judged: it had {cores:.1f} cores, this machine is busy"
