"""The hub shares its event loop: with the kernels' channels, and with viewers that come and go."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from forge_notebook.recording import Session
from forge_notebook.server import turns
from forge_notebook.server.feed import MAX_BACKLOG
from forge_notebook.server.hub import Hub
from forge_notebook.server.viewer import Batch


class Watcher:
    """A viewer whose every message costs so much of the event loop's time."""

    def __init__(self, cost_s: float = 0.0) -> None:
        self.cost_s = cost_s
        self.unread = 0
        self.cursor = 0
        self.losses: list[float] = []
        self.told_at: list[float] = []

    def send(self, batch: Batch) -> int:
        end = time.perf_counter() + self.cost_s
        while time.perf_counter() < end:
            pass
        for _, data in batch.messages:
            if "fromSeq" in data:
                assert data["fromSeq"] <= self.cursor < data["seq"]
                self.cursor = data["seq"]
                self.told_at.append(time.perf_counter())
                for block in data.get("series", []):
                    self.losses += block["values"][block["columns"].index("loss")]
        return self.unread

    def backlog(self) -> int:
        return self.unread


async def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_others_have_many_turns_of_the_loop_during_one_broadcast(store: Path) -> None:
    hub, session = Hub(store), Session("run")
    watchers = [Watcher(cost_s=0.0005) for _ in range(400)]
    for watcher in watchers:
        await hub.subscribe(watcher, session.id)
    ticks: list[float] = []

    async def other() -> None:
        while True:
            ticks.append(time.perf_counter())
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    session.log(1, loss=1.0)
    await until(lambda: all(w.losses for w in watchers))
    task.cancel()
    first, last = min(w.told_at[-1] for w in watchers), max(w.told_at[-1] for w in watchers)
    assert last - first > 0.15
    assert sum(first < tick < last for tick in ticks) > 100  # eight for each 5 ms
    await hub.stop()
    session.finish()


async def test_a_broadcast_that_takes_too_long_lowers_the_rate_and_loses_nothing(
    store: Path,
) -> None:
    hub, session = Hub(store, rate_hz=1000.0), Session("run")
    watchers = [Watcher(cost_s=0.002) for _ in range(100)]
    for watcher in watchers:
        await hub.subscribe(watcher, session.id)
    for step in range(60):
        session.log(step, loss=float(step))
        await asyncio.sleep(0.02)
    await until(lambda: all(len(w.losses) == 60 for w in watchers))
    assert all(w.losses == [float(step) for step in range(60)] for w in watchers)
    told = sorted(at for w in watchers for at in w.told_at)
    rests = [after - before for before, after in pairwise(told) if after - before > 0.03]
    assert len(rests) >= 3  # between broadcasts of 0.2 s the loop is free for a quarter of that
    # However long the steps took here: no more broadcasts than there is time for, with their rests.
    assert min(len(w.told_at) for w in watchers) <= 2 + (told[-1] - told[0]) / 0.25
    await hub.stop()
    session.finish()


@pytest.mark.parametrize("seed", range(5))
async def test_viewers_that_come_go_and_stall_during_broadcasts_have_each_point_once(
    store: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(turns, "SLICE_S", 0.0)  # others act between any sixteen viewers
    chance = random.Random(seed)
    hub, session = Hub(store, rate_hz=1000.0), Session("run")
    watchers = [Watcher() for _ in range(100)]
    for watcher in watchers:
        await hub.subscribe(watcher, session.id)

    async def faults() -> None:
        while True:
            for watcher in chance.sample(watchers, 3):
                match chance.randrange(4):
                    case 0:
                        watcher.unread = chance.choice([0, 1, MAX_BACKLOG + 1])
                    case 1:
                        hub.forget(watcher)
                        await hub.subscribe(watcher, session.id, watcher.cursor)
                    case 2:
                        await hub.subscribe(watcher, session.id, watcher.cursor)
                    case 3:
                        hub.unsubscribe(watcher, session.id)
            await asyncio.sleep(0)

    task = asyncio.create_task(faults())
    for step in range(200):
        session.log(step, loss=float(step))
        await asyncio.sleep(0.002)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    for watcher in watchers:
        watcher.unread = 0
        await hub.subscribe(watcher, session.id, watcher.cursor)
    await until(lambda: all(len(w.losses) >= 200 for w in watchers))
    assert all(w.losses == [float(step) for step in range(200)] for w in watchers)
    await hub.stop()
    session.finish()


async def test_a_viewer_that_fails_costs_the_others_nothing(store: Path) -> None:
    class Broken(Watcher):
        failed = False

        def send(self, batch: Batch) -> int:
            if self.cursor > 0 and not self.failed:
                self.failed = True
                raise RuntimeError("against the contract")
            return super().send(batch)

    hub, session = Hub(store), Session("run")
    broken = Broken()
    watchers = [*(Watcher() for _ in range(40)), broken]
    for watcher in watchers:
        await hub.subscribe(watcher, session.id)
    session.log(1, loss=1.0)
    await until(lambda: all(w.losses == [1.0] for w in watchers if w is not broken))
    assert broken.failed
    await hub.stop()
    session.finish()
