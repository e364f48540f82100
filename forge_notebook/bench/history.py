"""What a long history and a full store cost whoever looks."""

from __future__ import annotations

import math
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from forge_notebook.bench import Row, median_of
from forge_notebook.core import kept
from forge_notebook.core.catalog import Catalog
from forge_notebook.core.follower import Follower
from forge_notebook.core.history import Curves
from forge_notebook.core.runlog import EVENT, SESSION, Point, Writer

POINTS = 2000
SPIKES = 1000


def measure(*, quick: bool, peers: Sequence[str]) -> list[Row]:
    """Overviews of 1e6 and 1e7 steps, spikes that survive, the list of 10,000 sessions."""
    repeats = 3 if quick else 7
    rows = []
    for exponent, goal in ((5, 10.0),) if quick else ((6, 10.0), (7, 20.0)):
        curves, column = _curves(10**exponent)
        name = f"overview of 1e{exponent} steps, {POINTS} points"
        rows.append(_time(f"{name}, first", lambda c=curves: _overview(c), column, 1, None))  # type: ignore[misc]
        rows.append(_time(name, lambda c=curves: _overview(c), column, repeats, goal))  # type: ignore[misc]
        middle = 10**exponent * 0.4
        window = lambda c=curves, m=middle: _overview(c, low=m, high=2 * m)  # noqa: E731
        rows.append(_time(f"{name}, window of 40 %", window, column, repeats, goal))
    rows += _opening(20_000 if quick else 1_000_000)
    rows.append(_spikes())
    rows += _catalog(200 if quick else 10_000, repeats)
    return rows


def _curves(steps: int) -> tuple[Curves, np.ndarray]:
    """A noisy falling loss, one row a step, and its values alone."""
    values = 2 + np.random.default_rng(0).normal(size=steps) / 10
    curves = Curves()
    for step, value in enumerate(values.tolist()):
        curves.add(step + 1, Point(step * 10**7, step, 0, ("loss", "lr"), (value, 0.1)))
    return curves, values


def _overview(curves: Curves, low: float = -math.inf, high: float = math.inf) -> None:
    curves.overview(POINTS, metrics=["loss"], low=low, high=high)


def _time(
    name: str, call: Callable[[], None], column: np.ndarray, repeats: int, goal: float | None
) -> Row:
    def once(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return (time.perf_counter() - began) * 1e3

    value = median_of(lambda: once(call), repeats)
    reference = median_of(lambda: once(lambda: (column.min(), column.max())), repeats)
    return Row(name, value, "ms", "min and max of the bare array", reference, goal)


def _opening(steps: int) -> list[Row]:
    """A log as a new reader opens it, folded and from what another reader kept of it."""
    with tempfile.TemporaryDirectory() as folder:
        session = Path(folder) / "long"
        session.mkdir()
        writer = Writer(session / "run.log")
        writer.append_json(SESSION, {"id": "long", "time": 1_700_000_000_000_000_000})
        for step in range(steps):
            writer.append_point(step, 0, {"loss": 1 + step % 97 / 100, "lr": 0.1}, step + 1)
        writer.abandon()
        folded = _open(session, steps)
        if not (session / kept.NAME).exists():  # too short to be kept by itself
            with unittest.mock.patch.object(kept, "WORTH_BYTES", 0):
                _open(session, steps)
        indexed = median_of(lambda: _open(session, steps), 3)
    name = f"opening a log of {steps} rows"
    return [
        Row(f"{name}, first reader", folded, "ms"),
        Row(f"{name}, the next", indexed, "ms", "first reader", folded),
    ]


def _open(session: Path, steps: int) -> float:
    began = time.perf_counter()
    follower = Follower(session)
    follower.load()
    spent = (time.perf_counter() - began) * 1e3
    if follower.state.seq != steps + 2:  # the session and the columns record
        raise RuntimeError(f"{follower.state.seq} of {steps + 2} records read")
    return spent


def _spikes() -> Row:
    """One-step spikes, one in each hundred steps, in a window that shows them all."""
    steps = 100_000
    curves = Curves()
    every = steps // SPIKES
    for step in range(steps):
        value = 9.0 if step % every == every // 2 else 1.0 + step % 7 / 100
        curves.add(step + 1, Point(step * 10**7, step, 0, ("loss",), (value,)))
    (block,) = curves.overview(2 * SPIKES, metrics=["loss"])
    kept = sum(value == 9.0 for value in block["values"][0])
    return Row("one-step spikes kept at 1e5 steps", 100 * kept / SPIKES, "%", goal=100.0,
               more_is_better=True)  # fmt: skip


def _catalog(count: int, repeats: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        for number in range(count):
            _ended(store / f"session-{number}", number)
        cold = _listing(Catalog(store), count)
        warm = median_of(lambda: _listing(Catalog(store), count), repeats)
        catalog = Catalog(store)
        catalog.sessions()
        again = median_of(lambda: _listing(catalog, count), repeats)
    name = f"list of {count} sessions"
    goal = 300.0
    return [
        Row(f"{name}, no index yet", cold, "ms"),
        Row(f"{name}, another process", warm, "ms", "no index", cold, goal),
        Row(f"{name}, again", again, "ms", "no index", cold, goal),
    ]


def _listing(catalog: Catalog, count: int) -> float:
    began = time.perf_counter()
    listed = catalog.sessions()
    spent = (time.perf_counter() - began) * 1e3
    if len(listed) != count:
        raise RuntimeError(f"{len(listed)} of {count} sessions listed")
    return spent


def _ended(folder: Path, number: int) -> None:
    folder.mkdir()
    writer = Writer(folder / "run.log")
    time_ns = 1_700_000_000_000_000_000 + number * 10**9
    writer.append_json(SESSION, {"id": folder.name, "name": f"run {number}", "time": time_ns})
    for step in range(20):
        writer.append_point(step, 0, {"loss": 1 / (step + 1), "lr": 0.1}, time_ns + step)
    writer.append_json(EVENT, {"event": "training_completed", "time": time_ns + 99, "data": {}})
    writer.abandon()
