"""Trackio's SQLite file: every run of a project."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from forge_notebook.integrations.formats.loose import nanoseconds, number
from forge_notebook.integrations.formats.run import FormatError, Row, Run


def read(path: Path) -> list[Run]:
    """One run for each of the project's; alerts become events. Opened read-only."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        try:
            columns = {row["name"] for row in database.execute("PRAGMA table_info(metrics)")}
        except sqlite3.DatabaseError as error:
            raise FormatError(f"{path.name} is not an SQLite file: {error}") from None
        if not columns >= {"run_name", "step", "timestamp", "metrics"}:
            raise FormatError(f"{path.name} has no table of Trackio's metrics")
        key = "run_id" if "run_id" in columns else "run_name"  # older files have no run_id
        runs: dict[str, Run] = {}
        for row in database.execute("SELECT * FROM metrics ORDER BY id"):
            run = runs.setdefault(row[key], Run({"name": row["run_name"]}, []))
            _add_row(run, row, path)
        for row in _table(database, "configs"):
            if row[key] in runs:
                config = runs[row[key]].session.get("config", {})
                runs[row[key]].session["config"] = {**json.loads(row["config"]), **config}
        for row in _table(database, "alerts"):
            if row[key] in runs:
                runs[row[key]].events.append((len(runs[row[key]].rows), _alert(row)))
        return list(runs.values())


def _table(database: sqlite3.Connection, name: str) -> list[Any]:
    known = database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    return database.execute(f"SELECT * FROM {name}").fetchall() if known else []


def _add_row(run: Run, row: sqlite3.Row, path: Path) -> None:
    metrics = {}
    for name, value in json.loads(row["metrics"]).items():
        if (found := number(value)) is not None:
            metrics[name] = found
        elif name not in (left := run.session.setdefault("config", {}).setdefault("leftOut", [])):
            left.append(name)
    time_ns = nanoseconds(row["timestamp"])
    if time_ns is None:
        raise FormatError(f"{path.name}: time {row['timestamp']!r} cannot be read")
    run.rows.append(Row(time_ns, row["step"], 0, metrics))


def _alert(row: sqlite3.Row) -> dict[str, Any]:
    message = row["title"] if not row["text"] else f"{row['title']}: {row['text']}"
    return {
        "event": "alert", "time": nanoseconds(row["timestamp"]), "step": row["step"],
        "model": None, "data": {"kind": row["level"], "message": message},
    }  # fmt: skip
