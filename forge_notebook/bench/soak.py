"""Three kernels that train, a Jupyter server and 200 viewers, with all of it failing at random.

Kernels and server are killed by SIGKILL, viewers leave, sleep and lose their network. At the end
every viewer must have every point of its session once, with the number that the log holds. The
last third runs without kills and shows whether memory stays flat; then everybody leaves, and the
server's file descriptors are counted. Not part of ``forge-notebook bench`` without a name.
"""

from __future__ import annotations

import asyncio
import logging
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from forge_notebook.bench import Row
from forge_notebook.bench.soak_parts import (
    Loop,
    Viewer,
    descriptors,
    resident_mb,
    rows_of,
    verdict,
)
from forge_notebook.cli._jupyter import Server, jupyter_server

SESSIONS = 3
VIEWERS = 200
MINUTES = 120.0
CATCH_UP_S = 60.0
LEAVING_S = 15.0  # a busy server hears late that somebody has left
KEPT_FILES = 10
GROWTH_MB = 10.0


class Sample(NamedTuple):
    """Memory in the calm phase, in MB."""

    server: float
    kernel: float


class Faults:
    """What happened so far."""

    def __init__(self) -> None:
        self.server_kills = 0
        self.kernel_kills = 0
        self.cuts = 0


def measure(
    *, quick: bool, peers: Sequence[str], minutes: float = MINUTES, viewers: int = VIEWERS
) -> list[Row]:
    """Run for that many minutes (one with ``quick``) and count what was lost or doubled."""
    # Reading from a server that was killed is what happens here; tornado logs each such reader.
    logging.getLogger("tornado.application").setLevel(logging.CRITICAL)
    seed = random.SystemRandom().randrange(1 << 32)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        store = Path(folder)
        server = stack.enter_context(jupyter_server(store))
        fresh = descriptors(server.pid)
        loops = [stack.enter_context(Loop(f"soak-{i}", store)) for i in range(SESSIONS)]
        seconds = 60.0 * (1.0 if quick else minutes)
        soak = Soak(server, loops, viewers, seconds, random.Random(seed))
        rows = asyncio.run(soak.run(fresh))
        logs = {loop.id: rows_of(store / loop.id / "run.log") for loop in loops}
    damaged = sum(log.lost for log in logs.values())
    verdicts = [verdict(viewer, logs[viewer.session]) for viewer in soak.viewers]
    points = sum(viewer.rows for viewer in soak.viewers)
    note = f"of {points} delivered, seed {seed}"
    faults = soak.faults
    return [
        Row("viewers that lost or doubled a point", sum(verdicts), "viewers", goal=0, note=note),
        Row("viewers that did not reach the end", soak.unfinished, "viewers", goal=0),
        Row("records damaged in the logs", damaged, "records", goal=0),
        Row("server killed", faults.server_kills, "times", goal=1, more_is_better=True),
        Row("kernels killed", faults.kernel_kills, "times", goal=1, more_is_better=True),
        Row("half of the viewers cut off", faults.cuts, "times", goal=1, more_is_better=True),
        Row("connections made", sum(v.connections for v in soak.viewers), "connections"),
        *rows,
        Row("descriptors kept when all have left", soak.left, "files", goal=KEPT_FILES),
    ]  # fmt: skip


class Soak:
    """One run: the parts, and the faults drawn for them."""

    def __init__(
        self, server: Server, loops: list[Loop], viewers: int, seconds: float, fate: random.Random
    ) -> None:
        self.server = server
        self.loops = loops
        self.viewers = [
            Viewer(server, loops[i % len(loops)].id, random.Random(fate.random()))
            for i in range(viewers)
        ]
        self.faults = Faults()
        self.unfinished = 0
        self.left = 0  # descriptors that the server kept
        self._seconds = seconds
        self._fate = fate
        self._samples: list[Sample] = []

    async def run(self, fresh: int) -> list[Row]:
        """Storm for two thirds of the time, calm for the last, then the end of the training.

        ``fresh`` is how many descriptors the server had before anybody came.
        """
        following = [asyncio.create_task(viewer.run()) for viewer in self.viewers]
        end = time.monotonic() + self._seconds
        calm = end - self._seconds / 3
        storm = self._kill_server(calm), self._kill_kernels(calm), self._cut(calm)
        await asyncio.gather(*storm, self._weigh(calm, end))
        for loop in self.loops:
            await asyncio.to_thread(loop.finish)
        _, pending = await asyncio.wait(following, timeout=CATCH_UP_S)
        self.unfinished = len(pending)
        for task in pending:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        gone_by = time.monotonic() + LEAVING_S
        while True:
            await asyncio.sleep(1)
            self.left = descriptors(self.server.pid) - fresh
            if self.left <= KEPT_FILES or time.monotonic() >= gone_by:
                return self._growth()

    async def _kill_server(self, until: float) -> None:
        while await self._pause(self._seconds / 8, until):
            await asyncio.to_thread(self.server.kill)
            self.faults.server_kills += 1
            await asyncio.to_thread(self.server.start)

    async def _kill_kernels(self, until: float) -> None:
        while await self._pause(self._seconds / 10, until):
            await asyncio.to_thread(self._fate.choice(self.loops).kill_and_resume)
            self.faults.kernel_kills += 1

    async def _cut(self, until: float) -> None:
        while await self._pause(self._seconds / 12, until):
            for viewer in self._fate.sample(self.viewers, len(self.viewers) // 2):
                viewer.cut()
            self.faults.cuts += 1

    async def _pause(self, mean_s: float, until: float) -> bool:
        """Sleep for about that long; False once there is no time left for another fault."""
        wake = time.monotonic() + mean_s * self._fate.uniform(0.5, 1.5)
        await asyncio.sleep(max(0.0, min(wake, until) - time.monotonic()))
        return wake < until

    async def _weigh(self, begin: float, end: float) -> None:
        await asyncio.sleep(begin - time.monotonic())
        while time.monotonic() < end:
            kernel = max(resident_mb(loop.pid) for loop in self.loops)
            self._samples.append(Sample(resident_mb(self.server.pid), kernel))
            await asyncio.sleep(self._seconds / 300)

    def _growth(self) -> list[Row]:
        """From the second quarter of the calm phase, when all is warm, to its last."""
        quarter = len(self._samples) // 4
        warm, late = self._samples[quarter : 2 * quarter], self._samples[-quarter:]
        rows = []
        for name in Sample._fields:
            before, after = (
                statistics.median(getattr(sample, name) for sample in part) for part in (warm, late)
            )
            note = f"{before:.1f} to {after:.1f} MB"
            rows.append(
                Row(f"memory gained, {name}", after - before, "MB", goal=GROWTH_MB, note=note)
            )
        return rows
