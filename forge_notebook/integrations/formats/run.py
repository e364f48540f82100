"""A run on its way from one format to another: every row and event, nothing rounded."""

from __future__ import annotations

import importlib
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from forge_notebook.core.catalog import new_session_id
from forge_notebook.core.errors import ForgeError
from forge_notebook.core.runlog import EVENT, POINTS, SESSION, Writer, read_log

ENDS = ("training_completed", "training_failed", "training_stopped")


class FormatError(ForgeError, ValueError):
    """The file is not what its name says, or the format cannot hold the run."""


class MissingLibrary(ForgeError, ImportError):
    """An optional library that the format needs is not installed."""


class Row(NamedTuple):
    """One ``log`` call; ``time_ns``: unix nanoseconds."""

    time_ns: int
    step: int
    model: int
    metrics: Mapping[str, float]


@dataclass
class Run:
    """Rows in the order of the calls; ``events``: each with the number of rows before it."""

    session: dict[str, Any]
    rows: list[Row]
    events: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What viewers show."""
        return str(self.session.get("name", "run"))

    @property
    def metric_names(self) -> list[str]:
        """Every metric, in the order of first appearance."""
        return list(dict.fromkeys(name for row in self.rows for name in row.metrics))

    def in_order(self) -> Iterator[Row | dict[str, Any]]:
        """Rows and events as they came."""
        done = 0
        for at, event in self.events:
            yield from self.rows[done:at]
            done = max(done, at)
            yield event
        yield from self.rows[done:]


def recorded(log: Path) -> Run:
    """What a session's run log holds."""
    run = Run({}, [])
    for record in read_log(log):
        data = record.data
        if record.kind == POINTS:
            metrics = dict(zip(data.names, data.values, strict=True))
            run.rows.append(Row(data.time_ns, data.step, data.model, metrics))
        elif record.kind == EVENT:
            run.events.append((len(run.rows), data))
        elif record.kind == SESSION and not run.session:
            run.session = data
    return run


def store_run(run: Run, store: Path, *, source: str) -> str:
    """Write a run as a session of the store; returns its id.

    A run that does not say how it ended is ``stopped``: its end is not known.
    """
    session_id = new_session_id(run.name)
    folder = store / session_id
    folder.mkdir(mode=0o700, parents=True)
    first = run.rows[0].time_ns if run.rows else 1
    last = max((row.time_ns for row in run.rows), default=first)
    here = {
        "time": first, "config": {}, "totalSteps": None, "models": 1,
        "host": socket.gethostname(), "pid": os.getpid(),
        "versions": {"python": platform.python_version()},
    }  # fmt: skip
    head = {**here, **run.session, "id": session_id, "name": run.name, "imported": source}
    head["models"] = max([head["models"], *(row.model + 1 for row in run.rows)])
    writer = Writer(folder / "run.log")
    writer.append_json(SESSION, head)
    if not any(event["event"] == "training_started" for _, event in run.events):
        writer.append_json(EVENT, _event("training_started", first))
    for item in run.in_order():
        if isinstance(item, Row):
            # append_point takes 0 for "now"
            writer.append_point(item.step, item.model, item.metrics, item.time_ns or 1)
        else:
            writer.append_json(EVENT, item)
    if not any(event["event"] in ENDS for _, event in run.events):
        writer.append_json(EVENT, _event("training_stopped", last, reason="the source has no end"))
    lost, error = writer.lost, writer.error
    writer.close()
    if lost or error is not None:
        raise FormatError(f"{lost} rows could not be written to {folder}: {error}")
    return session_id


def _event(name: str, time_ns: int, **data: Any) -> dict[str, Any]:
    return {"event": name, "time": time_ns, "step": None, "model": None, "data": data}


def library(name: str, extra: str = "export") -> Any:
    """An optional library. Raises MissingLibrary saying how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        top = name.split(".")[0]
        raise MissingLibrary(
            f"this needs {top}: pip install {top}, or 'forge-notebook[{extra}]' ({error})"
        ) from None
