"""Parquet: rows as columns, session and events in the file's metadata. Needs pyarrow.

Also reads what neptune-exporter wrote (one row for each attribute and step).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from forge_notebook.core.wire import dumps, jsonable
from forge_notebook.integrations.formats.loose import column, loose_run, metric, nanoseconds
from forge_notebook.integrations.formats.run import FormatError, Row, Run, library

KEY = b"forge_notebook"
NEPTUNE = {"run_id", "attribute_path", "attribute_type", "float_value"}


def write(run: Run, path: Path) -> None:
    """Columns ``step``, ``time`` (UTC, nanoseconds), ``model``, then the metrics; null: absent."""
    pa, parquet = library("pyarrow"), library("pyarrow.parquet")
    columns: dict[str, Any] = {
        "step": pa.array([row.step for row in run.rows], pa.int64()),
        "time": pa.array([row.time_ns for row in run.rows], pa.timestamp("ns", "UTC")),
        "model": pa.array([row.model for row in run.rows], pa.int32()),
    }
    for name in run.metric_names:
        columns[column(name)] = pa.array([row.metrics.get(name) for row in run.rows], pa.float64())
    meta = dumps(jsonable({"session": run.session, "events": run.events})).encode()
    parquet.write_table(pa.table(columns).replace_schema_metadata({KEY: meta}), path)


def read(path: Path) -> list[Run]:
    """Ours, neptune-exporter's, or any table with one row for each step."""
    parquet, pa = library("pyarrow.parquet"), library("pyarrow")
    try:
        table = parquet.read_table(path)
    except pa.ArrowInvalid as error:
        raise FormatError(f"{path.name} is not a Parquet file: {error}") from None
    meta = (table.schema.metadata or {}).get(KEY)
    if meta is not None:
        return [_ours(table, json.loads(meta), pa)]
    if set(table.column_names) >= NEPTUNE:
        return _neptune(table.to_pylist())
    return [loose_run(path.stem, table.to_pylist(), path)]


def _ours(table: Any, meta: dict[str, Any], pa: Any) -> Run:
    names = table.column_names[3:]
    steps, models = table["step"].to_pylist(), table["model"].to_pylist()
    times = table["time"].cast(pa.int64()).to_pylist()
    values = [table[name].to_pylist() for name in names]
    rows = []
    for index, (time_ns, step, model) in enumerate(zip(times, steps, models, strict=True)):
        metrics = {
            metric(name): series[index]
            for name, series in zip(names, values, strict=True)
            if series[index] is not None
        }
        rows.append(Row(time_ns, step, model, metrics))
    return Run(meta["session"], rows, [(at, event) for at, event in meta["events"]])


def _neptune(table: list[dict[str, Any]]) -> list[Run]:
    """One run for each ``run_id``. Neptune's steps are decimals: a run that uses fractions has
    them multiplied by ``stepScale``, which is in its config."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for row in table:
        runs.setdefault(str(row["run_id"]), []).append(row)
    return [_neptune_run(name, rows) for name, rows in runs.items()]


def _neptune_run(name: str, table: list[dict[str, Any]]) -> Run:
    config: dict[str, Any] = {}
    points: dict[tuple[Any, Any], dict[str, float]] = {}
    for row in table:
        kind, path = row["attribute_type"], row["attribute_path"]
        if kind == "float_series":
            metrics = points.setdefault((row["step"], row["timestamp"]), {})
            metrics[path] = float("nan") if row["float_value"] is None else row["float_value"]
        elif kind in ("float", "int", "string", "bool", "datetime", "string_set"):
            config[path] = row.get(f"{kind}_value")
        else:
            config.setdefault("leftOut", []).append(path)
    scale = next(10**n for n in range(7) if all(s * 10**n % 1 == 0 for s, _ in points))
    if scale > 1:
        config["stepScale"] = scale
    rows = [
        Row(nanoseconds(time) or 1, int(step * scale), 0, metrics)
        for (step, time), metrics in points.items()
    ]
    rows.sort(key=lambda row: (row.step, row.time_ns))
    return Run({"name": str(config.get("sys/name") or name), "config": config}, rows)
