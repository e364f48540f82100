"""What a SIGKILL costs: writers killed at random moments, and everything they had been told was
recorded read back."""

from __future__ import annotations

import math
import mmap
import os
import random
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forge_notebook.bench import Row
from forge_notebook.bench.peer_runs import lost_on_kill
from forge_notebook.core.runlog import POINTS, Reader, has_writer
from forge_notebook.recording import Session

WRITERS = 4  # at once: they share the disk and the cores
LONGEST_S = 0.03
_STEP = struct.Struct("<q")


@dataclass
class Outcome:
    """What was read back after the kills."""

    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    wrong: int = 0
    torn: int = 0  # logs that end in the middle of a record, as they may


def measure(*, quick: bool, peers: Sequence[str]) -> list[Row]:
    """1,000 kills of 4 writers at once; five of each peer."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = kill_many(Path(folder), 40 if quick else 1000)
    note = f"of {outcome.acknowledged} acknowledged, {outcome.kills} kills"
    return [
        Row("records lost on SIGKILL", outcome.lost, "records", goal=0, note=note),
        Row("wrong numbers read back", outcome.wrong, "records", goal=0),
        Row("logs that ended in a torn record", outcome.torn, "logs"),
        Row("kills", outcome.kills, "kills", goal=40 if quick else 1000, more_is_better=True),
        *lost_on_kill(peers, 2 if quick else 5, outcome.lost),
    ]


def kill_many(store: Path, kills: int, *, writers: int = WRITERS, seed: int = 0) -> Outcome:
    """Fork writers, kill each at a random moment, read its log back."""
    moments = random.Random(seed)
    outcome = Outcome()
    while outcome.kills < kills:
        running = [_start(store, f"k{outcome.kills + i}") for i in range(writers)]
        for child, acknowledged, session_id in sorted(running, key=lambda _: moments.random()):
            while _STEP.unpack_from(acknowledged)[0] == 0:  # it began
                time.sleep(0.0005)
            time.sleep(moments.random() * LONGEST_S)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            _read_back(store / session_id / "run.log", _STEP.unpack_from(acknowledged)[0], outcome)
    return outcome


def value(step: int) -> float:
    """What the writers log at a step: not a pattern that a wrong offset would repeat."""
    return math.sin(step) * float(10 ** (step % 7))


def _start(store: Path, session_id: str) -> tuple[int, mmap.mmap, str]:
    acknowledged = mmap.mmap(-1, _STEP.size)  # shared: what stands in it survives the child
    (store / session_id).mkdir(parents=True)
    sys.stdout.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            _write_until_killed(store, session_id, acknowledged, parent)
        finally:
            os._exit(1)
    return child, acknowledged, session_id


def _write_until_killed(store: Path, session_id: str, acknowledged: mmap.mmap, parent: int) -> None:
    session = Session(session_id, store=store, resume=session_id)
    step = 0
    while step % 50 or os.getppid() == parent:  # nobody else would end it
        step += 1
        if step % 50:
            session.log(step, loss=value(step), lr=0.1)
        else:  # other columns in between, and events
            session.log(step, loss=value(step), val_loss=value(-step))
            session.event("checkpoint_saved", step=step, path="x")
        _STEP.pack_into(acknowledged, 0, step)


def _read_back(log: Path, acknowledged: int, outcome: Outcome) -> None:
    reader = Reader(log)
    rows: dict[int, float] = {}
    while records := reader.read():
        rows.update({r.data.step: r.data.values[0] for r in records if r.kind == POINTS})
    outcome.kills += 1
    outcome.acknowledged += acknowledged
    outcome.lost += sum(step not in rows for step in range(1, acknowledged + 1)) + reader.lost
    outcome.wrong += sum(number != value(step) for step, number in rows.items())
    outcome.wrong += has_writer(log)
    outcome.torn += reader.offset < log.stat().st_size
