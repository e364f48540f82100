"""What ``Session.log`` and our background thread cost the training thread."""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from forge_notebook.bench import OURS, Row, median_of
from forge_notebook.bench.peers import loggers
from forge_notebook.bench.steps import convoy
from forge_notebook.core.frames import CRC, layout
from forge_notebook.recording import Session

STEP_S = 0.005
CONVOY_STEPS_MS = (1.5, 15.0)


def measure(*, quick: bool, peers: Sequence[str]) -> list[Row]:
    """The call, hot and cold, beside one bare ``write(2)``; the steps of a loop with and without
    us; the duty of the background thread."""
    calls, repeats = (2000, 3) if quick else (20_000, 7)
    with tempfile.TemporaryDirectory() as folder:
        session = Session("bench", store=folder)
        call, raw = _caller(session), _raw_write(Path(folder))
        for step in range(100):
            call(step)
        rows = []
        for quantile, goal in ((0.5, 2.0), (0.99, 10.0)):
            value, bare = _beside(call, raw, repeats, calls, quantile)
            name = f"log() of 6 scalars, hot, p{round(quantile * 100)}"
            rows.append(Row(name, value, "us", "one write(2)", bare, goal))
        least = _least(Path(folder))
        value, bare = _beside(call, least, repeats, calls, 0.5)
        rows.append(Row("the same beside the least in Python, p50", value, "us",
                        "pack, checksum and write(2), no lock, no checks", bare))  # fmt: skip
        cold, bare = _beside(call, raw, repeats, calls // 100, 0.5, pause=STEP_S)
        rows.append(Row("log() once per 5 ms step, p50", cold, "us", "one write(2)", bare, 15.0))
        duty = median_of(lambda: _pump_duty(0.3 if quick else 2.0), repeats)
        rows.append(Row("background thread, share of one core", duty, "%", goal=1.0))
        session.finish()
        for step_ms in CONVOY_STEPS_MS:
            rows += convoy(Path(folder), step_ms, 250 if quick else 1600)
        for name, log in loggers(peers, Path(folder)):
            value = median_of(lambda f=log: _cost(f, calls // 10, 0.5), repeats)  # type: ignore[misc]
            rows.append(
                Row(f"{name}: log() of 6 scalars, hot, p50", value, "us", OURS, rows[0].value)
            )
    return rows


def _caller(session: Session) -> Callable[[int], None]:
    loss, val, lr, norm, speed, epoch = 1.5, 1.6, 3e-4, 0.7, 1e4, 0.25

    def call(step: int) -> None:
        session.log(step, loss=loss, val=val, lr=lr, grad_norm=norm, speed=speed, epoch=epoch)

    return call


def _raw_write(folder: Path) -> Callable[[int], None]:
    fd = os.open(folder / "raw", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    data = bytes(88)

    def call(_step: int) -> None:
        os.write(fd, data)

    return call


def _least(folder: Path) -> Callable[[int], None]:
    """What every Python function of six metrics pays for a row that a reader can check."""
    fd = os.open(folder / "least", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    pack, head, columns, _ = layout(0, 6)
    now, crc, crc32, write = time.time_ns, CRC.pack, zlib.crc32, os.write

    def log(
        step: int, *, loss: float, val: float, lr: float, norm: float, speed: float, epoch: float
    ) -> None:
        frame = pack(head, step, now(), step, 0, columns, loss, val, lr, norm, speed, epoch)
        write(fd, frame + crc(crc32(frame)))

    def call(step: int) -> None:
        log(step, loss=1.5, val=1.6, lr=3e-4, norm=0.7, speed=1e4, epoch=0.25)

    return call


def _beside(
    call: Callable[[int], None],
    raw: Callable[[int], None],
    repeats: int,
    times: int,
    quantile: float,
    pause: float = 0.0,
) -> tuple[float, float]:
    """Medians of both, measured by turns: a drift of the machine meets both."""
    pairs = [[_cost(f, times, quantile, pause) for f in (call, raw)] for _ in range(repeats)]
    ours, bare = zip(*pairs, strict=True)
    return statistics.median(ours), statistics.median(bare)


def _cost(call: Callable[[int], None], times: int, quantile: float, pause: float = 0.0) -> float:
    clock = time.perf_counter_ns
    spent = []
    for step in range(times):
        if pause:
            time.sleep(pause)
        began = clock()
        call(step)
        spent.append(clock() - began)
    return _quantile(spent, quantile) / 1e3


def _quantile(values: Sequence[float], quantile: float) -> float:
    return sorted(values)[int(quantile * (len(values) - 1))]


def _pump_duty(seconds: float) -> float:
    """% CPU of the background thread while a session is open; the clock is the thread's own."""
    (thread,) = [t for t in threading.enumerate() if t.name == "forge-pump"]
    clock = time.pthread_getcpuclockid(thread.ident or 0)
    began, cpu = time.perf_counter(), time.clock_gettime(clock)
    time.sleep(seconds)
    return 100 * (time.clock_gettime(clock) - cpu) / (time.perf_counter() - began)
