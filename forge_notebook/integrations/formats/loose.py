"""Rows of files that other tools wrote: which column is the step, which the time, what is left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from forge_notebook.integrations.formats.run import FormatError, Row, Run

STEPS = ("step", "_step", "global_step", "iteration")
TIMES = ("time", "_timestamp", "timestamp", "wall_time", "wall time")
MODEL = "model"
PREFIX = "metric:"  # of a metric that is named like one of our columns
RESERVED = {"step", "time", "model"}


def column(metric: str) -> str:
    """The column of a metric: its name, marked where that is taken."""
    return PREFIX + metric if metric in RESERVED or metric.startswith(PREFIX) else metric


def metric(column: str) -> str:
    """The metric of a column."""
    return column.removeprefix(PREFIX)


def number(value: Any) -> float | None:
    """The value as a float, ``"NaN"`` and ``"Infinity"`` by name; None where it is no number."""
    if isinstance(value, (bool, int, float, Decimal)):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def nanoseconds(value: Any) -> int | None:
    """Unix nanoseconds of unix seconds (exact for decimal text), ISO text or a datetime."""
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except InvalidOperation:
            try:
                value = datetime.fromisoformat(value.replace("Z", "+00:00"))
            except ValueError:
                return None
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        since = aware - datetime(1970, 1, 1, tzinfo=timezone.utc)
        return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    if isinstance(value, (int, float, Decimal)):
        exact = Decimal(value)
        return int(exact * 10**9) if exact.is_finite() else None
    return None


def loose_run(name: str, rows: Iterable[Mapping[str, Any]], path: Path) -> Run:
    """A run of flat rows, whatever wrote them.

    Steps are counted from 1 where there is no step column; without a time column every row has
    the file's time. Columns that hold no number are named in the config under ``leftOut``.
    """
    run = Run({"name": name}, [])
    left_out: dict[str, None] = {}
    file_time = path.stat().st_mtime_ns
    for index, row in enumerate(rows, 1):
        lower = {key.lower(): key for key in row}
        step = _first(row, lower, STEPS)
        time = _first(row, lower, TIMES)
        used = {lower.get(k) for k in (*STEPS, *TIMES) if lower.get(k) in row}
        metrics = {}
        for key, value in row.items():
            if key in used or key == MODEL or value is None or value == "":
                continue
            if (found := number(value)) is None:
                left_out[key] = None
            else:
                metrics[metric(key)] = found
        whole = number(step) if step not in (None, "") else float(index)
        if whole is None or not whole.is_integer():
            raise FormatError(f"{path.name}, row {index}: step {step!r} is not a whole number")
        time_ns = nanoseconds(time) if time not in (None, "") else file_time
        if time_ns is None:
            raise FormatError(f"{path.name}, row {index}: time {time!r} cannot be read")
        model = number(row.get(MODEL)) or 0
        run.rows.append(Row(time_ns, int(whole), int(model), metrics))
    if left_out:
        run.session["config"] = {"leftOut": list(left_out)}
    return run


def _first(row: Mapping[str, Any], lower: Mapping[str, str], names: tuple[str, ...]) -> Any:
    return next((row[lower[name]] for name in names if name in lower), None)
