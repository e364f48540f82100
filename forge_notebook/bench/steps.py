"""What recording adds to the steps of a loop, not only to its calls: the GIL convoy."""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO

from forge_notebook.bench import Row
from forge_notebook.recording import Session

BLOCK = 50  # steps; arms alternate so often that a drift of the machine meets all alike
WARM = 20  # steps before those that count: by then `log` is compiled
GOAL = 0.1  # % of the training thread
QUIET = 2.0  # % of noise; above, this machine is too busy to judge, and nothing is called met
ARMS = ("without us", "with us", "without us again")


def convoy(folder: Path, step_ms: float, steps: int) -> list[Row]:
    """Steps that give the GIL away and take it back, as torch does at each operation.

    The step is a fixed number of operations, so its time shows whoever holds the GIL meanwhile.
    Every figure is a median over pairs of neighbouring blocks of steps. The loop runs a third time,
    again without us: how far that is from the first is what this machine cannot tell apart.
    """
    operations = _calibrate(step_ms)
    blocks: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    with _parked():
        for turn in range(max(5, steps // BLOCK)):
            for arm in ARMS[turn % 3 :] + ARMS[: turn % 3]:
                blocks[arm].append(_steps(folder, operations, arm == "with us"))
    without, ours, again = blocks.values()
    rows = []
    for name, quantile in (("p50", 0.5), ("p99", 0.99)):
        bare, value = (_quantile([*chain(*arm)], quantile) for arm in (without, ours))
        rows.append(Row(f"step of {step_ms:g} ms with us, {name}", value, "ms", "without us", bare))
    added, _ = _added(ours, without)
    same, noise = _added(again, without)
    what = f"time added to steps of {step_ms:g} ms"
    quiet = noise <= QUIET
    note = f"{GOAL:g} % and the noise" if quiet else "not judged: the machine is too busy"
    rows.append(Row(what, added, "%", goal=GOAL + noise if quiet else None, note=note))
    rows.append(Row(f"{what}, nothing against nothing", same, "%", note=f"+- {noise:.2f} (95 %)"))
    return rows


def _added(blocks: Sequence[list[float]], to: Sequence[list[float]]) -> tuple[float, float]:
    """Median of what blocks took longer than their neighbours, and how sure that is, %."""
    pairs = zip(blocks, to, strict=True)
    added = [100 * (statistics.fmean(a) / statistics.fmean(b) - 1) for a, b in pairs]
    middle = statistics.median(added)
    spread = 1.4826 * statistics.median(abs(value - middle) for value in added)
    return middle, 1.96 * 1.2533 * spread / len(added) ** 0.5


@contextmanager
def _parked() -> Iterator[None]:
    """A thread that does nothing, beside every arm.

    The second thread of a process, whoever starts it, makes each system call of the first about
    0.08 us slower on Linux, which then counts who uses a file. A torch process has several threads
    anyhow, so that is not ours; without this it showed as 5 to 8 % of these steps.
    """
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _steps(folder: Path, operations: int, with_us: bool) -> list[float]:
    session = Session("convoy", store=folder) if with_us else None
    times = []
    for step in range(WARM + BLOCK):
        began = time.perf_counter()
        for _ in range(operations):
            _operation()
        if session is not None:
            session.log(step, loss=1.5, val=1.6, lr=3e-4, grad_norm=0.7, speed=1e4, epoch=0.25)
        times.append((time.perf_counter() - began) * 1e3)
    if session is not None:
        session.finish()
    return times[WARM:]


def _operation() -> None:
    os.pwrite(_file().fileno(), _BLOCK, 0)  # releases the GIL, works, takes it back


_BLOCK = bytes(1 << 16)


@functools.cache
def _file() -> IO[bytes]:
    return tempfile.TemporaryFile()


def _calibrate(step_ms: float) -> int:
    """Operations a step. Counted in full steps: one by one, cold, they take twice as long."""
    operations = 10
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(10 * operations):
            _operation()
        took_ms = (time.perf_counter() - began) * 1e3 / 10
        operations = max(1, round(operations * step_ms / took_ms))
    return operations


def _quantile(values: Sequence[float], quantile: float) -> float:
    return sorted(values)[int(quantile * (len(values) - 1))]
