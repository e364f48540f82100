"""CSV: the rows, exactly; no events and no config (use JSONL or Parquet for those)."""

from __future__ import annotations

import csv
from pathlib import Path

from forge_notebook.integrations.formats.loose import column, loose_run
from forge_notebook.integrations.formats.run import FormatError, Run


def write(run: Run, path: Path) -> None:
    """Columns ``step``, ``time`` (unix seconds, 9 digits), ``model``, then the metrics.

    An empty cell is a metric that the call did not have; ``nan`` and ``inf`` are values.
    """
    names = run.metric_names
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["step", "time", "model", *map(column, names)])
        for row in run.rows:
            values = [repr(row.metrics[name]) if name in row.metrics else "" for name in names]
            out.writerow([row.step, seconds(row.time_ns), row.model, *values])


def seconds(time_ns: int) -> str:
    """Unix seconds as decimal text, exactly."""
    sign, time_ns = ("-", -time_ns) if time_ns < 0 else ("", time_ns)
    return f"{sign}{time_ns // 10**9}.{time_ns % 10**9:09d}"


def read(path: Path) -> list[Run]:
    """Any CSV with a header; ``loose_run`` says how columns are understood."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="")
        if not reader.fieldnames:
            raise FormatError(f"{path.name} has no header")
        return [loose_run(path.stem, reader, path)]
