"""The curve: every point of a session, windows of it, and min/max decimation at any length."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tsdownsample

from forge_notebook.core.columns import MAX_ODD, Columns, increasing
from forge_notebook.core.runlog import Point, Rows
from forge_notebook.core.wire import SeriesBlock, non_finite_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

MAX_POINTS = 20_000  # of one curve that a viewer may ask for
MAX_RAW_ROWS = 20_000  # rows sent as they are to a viewer that fell behind; more is decimated


class Table(NamedTuple):
    """Rows of one model and one set of metrics; arrays of one length, time in unix seconds."""

    model: int
    seq: Indices
    step: Indices
    time: Floats
    values: dict[str, Floats]


class Curves:
    """All points of one session in memory, 24 + 8 x metrics bytes a row. Any thread may call."""

    def __init__(self) -> None:
        self._columns: dict[tuple[int, tuple[str, ...]], Columns] = {}
        self._lock = threading.Lock()

    def add(self, seq: int, rows: Point | Rows) -> None:
        """Append rows; ``seq``, of the first, must grow from call to call."""
        key = (rows.model, rows.names)
        with self._lock:
            columns = self._columns.get(key)
            if columns is None:
                columns = self._columns[key] = Columns(rows.model, rows.names)
            columns.add(seq, rows)

    def frozen(self) -> dict[Any, NDArray[Any]]:
        """Every array, by model, metrics and kind."""
        with self._lock:
            return {
                (key, part): array
                for key, columns in self._columns.items()
                for part, array in columns.frozen().items()
            }

    def thaw(self, arrays: dict[Any, NDArray[Any]]) -> None:
        """Begin with the points of another."""
        parts: dict[tuple[int, tuple[str, ...]], dict[tuple[str, int], NDArray[Any]]] = {}
        for (key, part), array in arrays.items():
            parts.setdefault(key, {})[part] = array
        with self._lock:
            for (model, names), found in parts.items():
                self._columns[model, names] = Columns(model, names)
                self._columns[model, names].thaw(found)

    def is_short(self, after: int, until: int) -> bool:
        """Whether every row of that range may be sent as it is."""
        with self._lock:
            return sum(last - first for _, first, last in self._spans(after, until)) <= MAX_RAW_ROWS

    def between(self, after: int, until: int) -> list[SeriesBlock]:
        """Every row with ``after < seq <= until``; decimated, and marked, above MAX_RAW_ROWS."""
        if not self.is_short(after, until):
            return self.overview(1000, after=after, until=until)
        with self._lock:
            return [
                _rows(columns, columns.names, range(len(columns.names)), slice(first, last))
                for columns, first, last in self._spans(after, until)
                if last > first
            ]

    def _spans(self, after: int, until: int) -> list[tuple[Columns, int, int]]:
        return [(columns, *columns.span(after, until)) for columns in self._columns.values()]

    def overview(
        self,
        points: int,
        *,
        metrics: Collection[str] | None = None,
        x: str = "step",
        low: float = -math.inf,
        high: float = math.inf,
        after: int = 0,
        until: int = 1 << 62,
    ) -> list[SeriesBlock]:
        """One block per model and metric, at most about ``points`` rows each.

        Min/max of each bucket, so that a spike of one step is always there (LTTB and strides lose
        it). The window ``low`` to ``high`` is in steps, in unix seconds for ``x="time"``, or in
        epochs for ``x="epoch"``: rows that logged ``epoch``.
        """
        with self._lock:
            blocks: list[SeriesBlock] = []
            for model, name in self._curves(metrics):
                parts = [
                    (c, c.candidates(name, points, x, low, high, after, until))
                    for c in self._columns.values()
                    if c.model == model and name in c.names
                ]
                blocks.extend(_curve(name, parts, points))
            return blocks

    def tables(self) -> list[Table]:
        """Every row, one table for each model and set of metrics."""
        with self._lock:
            tables = []
            for c in self._columns.values():
                values = dict(zip(c.names, [column.all() for column in c.values], strict=True))
                tables.append(Table(c.model, c.seq.all(), c.step.all(), c.time.all(), values))
            return tables

    def values(self, model: int, name: str) -> list[float]:
        """Every value of one metric of one model, in the order of the calls within a column set."""
        with self._lock:
            return [
                value
                for columns in self._columns.values()
                if columns.model == model and name in columns.names
                for value in columns.column(name).tolist()
            ]

    def _curves(self, metrics: Collection[str] | None) -> Iterable[tuple[int, str]]:
        seen: dict[tuple[int, str], None] = {}
        for columns in self._columns.values():
            for name in columns.names:
                if metrics is None or name in metrics:
                    seen[columns.model, name] = None
        return seen


def _curve(
    name: str, parts: Sequence[tuple[Columns, tuple[Indices, int]]], points: int
) -> Iterable[SeriesBlock]:
    """The rows that parts of a curve proposed, in the order of the calls, decimated as one."""
    total = sum(rows for _, (_, rows) in parts)
    seq = np.concatenate([c.seq.all()[rows] for c, (rows, _) in parts])
    value = np.concatenate([c.column(name)[rows] for c, (rows, _) in parts])
    if len(parts) > 1:
        order = np.argsort(seq, kind="stable")
        kept = order[decimate(value[order], points)]
    else:
        kept = decimate(value, points)
    if not len(kept):
        return
    step = np.concatenate([c.step.all()[rows] for c, (rows, _) in parts])
    time = np.concatenate([c.time.all()[rows] for c, (rows, _) in parts])
    block = _block(
        parts[0][0].model, (name,), seq[kept].tolist(), step[kept].tolist(), time[kept].tolist(),
        [value[kept].tolist()],
    )  # fmt: skip
    if len(kept) < total:
        block["decimated"] = True
    yield block


def decimate(values: Floats, points: int) -> Indices:
    """Indices of at most about ``points`` values that keep every extreme of their bucket.

    The first and the last value are kept, and of each run of non-finite values the first (at
    most MAX_ODD), so that a gap stays a gap.
    """
    if len(values) <= points:
        return np.arange(len(values))
    finite = np.isfinite(values)
    all_finite = bool(finite.all())
    numbers = np.arange(len(values)) if all_finite else np.flatnonzero(finite)
    buckets = max(2, points // 2 * 2)
    if len(numbers) > buckets:
        picked = tsdownsample.MinMaxDownsampler().downsample(  # type: ignore[no-untyped-call]
            np.ascontiguousarray(values if all_finite else values[numbers]), n_out=buckets
        )
        numbers = numbers[picked.astype(np.int64)]
    odd = np.flatnonzero(~finite)
    run_starts = odd[np.flatnonzero(np.diff(odd, prepend=-2) > 1)][:MAX_ODD]
    ends = np.array([0, len(values) - 1])
    return increasing(np.concatenate([numbers, run_starts, ends]))


def _rows(
    columns: Columns, names: tuple[str, ...], chosen: Iterable[int], rows: slice
) -> SeriesBlock:
    return _block(
        columns.model,
        names,
        columns.seq.all()[rows].tolist(),
        columns.step.all()[rows].tolist(),
        columns.time.all()[rows].tolist(),
        [columns.values[c].all()[rows].tolist() for c in chosen],
    )


def _block(
    model: int,
    names: tuple[str, ...],
    seq: list[int],
    step: list[int],
    time: list[float],
    values: Sequence[list[float]],
) -> SeriesBlock:
    odd: list[tuple[int, int, str]] = []
    columns: list[list[float | None]] = []
    for c, column in enumerate(values):
        if all(map(math.isfinite, column)):
            columns.append(list(column))
            continue
        columns.append([v if math.isfinite(v) else None for v in column])
        odd += [(c, i, non_finite_name(v)) for i, v in enumerate(column) if not math.isfinite(v)]
    block: SeriesBlock = {
        "model": model,
        "columns": list(names),
        "seq": seq,
        "step": step,
        "time": [round(t, 4) for t in time],
        "values": columns,
    }
    if odd:
        block["nonFinite"] = odd
    return block
