"""What a long history and a full store cost whoever looks."""

from __future__ import annotations

import math
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forge_notebook.bench import Row, median_of
from forge_notebook.bench.peer_runs import overviews
from forge_notebook.core import index
from forge_notebook.core.catalog import Catalog
from forge_notebook.core.follower import Follower
from forge_notebook.core.history import Curves
from forge_notebook.core.runlog import EVENT, SESSION, Point, Writer

POINTS = 2000
NAMES = ("loss", "lr")
SPIKES = 1000


def measure(*, quick: bool, peers: Sequence[str]) -> list[Row]:
    """Overviews of 1e5 to 1e7 steps, spikes that survive, the list of 10,000 sessions."""
    repeats = 3 if quick else 7
    spikes = _spikes()
    rows = [spikes]
    for exponent, goal in ((5, 10.0),) if quick else ((5, 10.0), (6, 10.0), (7, 20.0)):
        arrays = _arrays(10**exponent)
        column = arrays[(0, NAMES), ("value", 0)]
        name = f"overview of 1e{exponent} steps, {POINTS} points"
        fresh = iter([_curves(arrays) for _ in range(repeats)])
        first = lambda fresh=fresh: _overview(next(fresh))  # noqa: E731
        rows.append(_time(f"{name}, first", first, column, repeats, None))
        curves = _curves(arrays)
        _overview(curves)
        rows.append(_time(name, lambda c=curves: _overview(c), column, repeats, goal))  # type: ignore[misc]
        if exponent == 5:
            rows += overviews(peers, 10**5, repeats, rows[-1].value, spikes.value)
        middle = 10**exponent * 0.4
        window = lambda c=curves, m=middle: _overview(c, low=m, high=2 * m)  # noqa: E731
        rows.append(_time(f"{name}, window of 40 %", window, column, repeats, goal))
    rows += _opening(20_000 if quick else 1_000_000, 3 if quick else 5)
    rows += _catalog(200 if quick else 10_000, repeats)
    return rows


def _arrays(steps: int) -> dict[Any, np.ndarray]:
    """A noisy falling loss, one row a step, as an index holds it: 10 million calls take minutes."""
    count = np.arange(steps, dtype=np.int64)
    columns = {("seq", 0): count + 1, ("step", 0): count, ("time", 0): count / 100}
    noise = np.random.default_rng(0).normal(size=steps) / 10
    values = 2 + noise + 2 / (1 + count / 1000), np.full(steps, 0.1)
    for number, value in enumerate(values):
        columns["value", number] = value
        columns["extremes", number] = columns["odd", number] = np.empty(0, dtype=np.int64)
    return {((0, NAMES), part): array for part, array in columns.items()}


def _curves(arrays: dict[Any, np.ndarray]) -> Curves:
    curves = Curves()
    curves.thaw(arrays)
    return curves


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


def _opening(steps: int, repeats: int) -> list[Row]:
    """A log as a new reader opens it, folded and from what another reader kept of it."""
    with tempfile.TemporaryDirectory() as folder:
        session = Path(folder) / "long"
        session.mkdir()
        writer = Writer(session / "run.log")
        writer.append_json(SESSION, {"id": "long", "time": 1_700_000_000_000_000_000})
        for step in range(steps):
            writer.append_point(step, 0, {"loss": 1 + step % 97 / 100, "lr": 0.1}, step + 1)
        writer.abandon()
        folded = median_of(lambda: _open_anew(session, steps), repeats)
        if not (session / index.NAME).exists():  # too short to be kept by itself
            with unittest.mock.patch.object(index, "WORTH_BYTES", 0):
                _open(session, steps)
        indexed = median_of(lambda: _open(session, steps), repeats)
    name = f"opening a log of {steps} rows"
    return [
        Row(f"{name}, first reader", folded, "ms"),
        Row(f"{name}, the next", indexed, "ms", "first reader", folded),
    ]


def _open_anew(session: Path, steps: int) -> float:
    (session / index.NAME).unlink(missing_ok=True)
    return _open(session, steps)


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
        cold = median_of(lambda: _listing_anew(store, count), repeats)
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


def _listing_anew(store: Path, count: int) -> float:
    for file in store.glob(".catalog.sqlite*"):
        file.unlink()
    return _listing(Catalog(store), count)


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
