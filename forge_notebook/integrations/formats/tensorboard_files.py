"""TensorBoard event files, read and written by TensorBoard's own library.

Values are written as float64 (``add_scalar`` writes float32) and times as the format's float64
seconds, which hold 0.24 us. Each model of a session is a TensorBoard run of its own.
"""

from __future__ import annotations

import json
import logging
import socket
from itertools import accumulate
from pathlib import Path
from typing import Any

from forge_notebook.core.wire import dumps, jsonable
from forge_notebook.integrations.formats.run import FormatError, Row, Run, library

PATTERN = "events.out.tfevents.*"
TAG = "forge_notebook/session"


class EventWriter:
    """Appends to one event file of a TensorBoard run."""

    def __init__(self, folder: Path, time_ns: int) -> None:
        self._protos = library("tensorboard.compat.proto.event_pb2")
        self._summary = library("tensorboard.compat.proto.summary_pb2")
        self._tensor = library("tensorboard.compat.proto.tensor_pb2")
        self._types = library("tensorboard.compat.proto.types_pb2")
        records = library("tensorboard.summary.writer.record_writer")
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time_ns // 10**9}.{socket.gethostname()}.forge"
        self._file = open(folder / name, "wb")  # noqa: SIM115  (closed by close)
        self._records = records.RecordWriter(self._file)
        self._write(self._protos.Event(wall_time=time_ns / 1e9, file_version="brain.Event:2"))

    def scalars(self, row: Row) -> None:
        """One event with all metrics of a row."""
        event = self._protos.Event(wall_time=row.time_ns / 1e9, step=row.step)
        for name, value in row.metrics.items():
            tensor = self._tensor.TensorProto(dtype=self._types.DT_DOUBLE, double_val=[value])
            self._add(event, name, tensor, "scalars", self._summary.DATA_CLASS_SCALAR)
        self._write(event)

    def text(self, tag: str, text: str, time_ns: int) -> None:
        """One text, shown on TensorBoard's text page."""
        event = self._protos.Event(wall_time=time_ns / 1e9, step=0)
        tensor = self._tensor.TensorProto(
            dtype=self._types.DT_STRING, string_val=[text.encode("utf-8")]
        )
        self._add(event, tag, tensor, "text", self._summary.DATA_CLASS_TENSOR)
        self._write(event)

    def _add(self, event: Any, tag: str, tensor: Any, plugin: str, data_class: int) -> None:
        meta = self._summary.SummaryMetadata(data_class=data_class)
        meta.plugin_data.plugin_name = plugin
        event.summary.value.add(tag=tag, tensor=tensor, metadata=meta)

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write(run: Run, path: Path) -> None:
    """Event files under ``path``, a folder; one sub-folder a model where there are several."""
    models = sorted({row.model for row in run.rows if row.metrics}) or [0]
    time_ns = run.rows[0].time_ns if run.rows else run.session.get("time", 0)
    rows = [row for row in run.rows if row.metrics]  # the format has no event without a value
    before = [0, *accumulate(bool(row.metrics) for row in run.rows)]
    events = [(before[at], event) for at, event in run.events]
    meta = dumps(jsonable({"session": run.session, "events": events}))
    for model in models:
        writer = EventWriter(path / f"model_{model}" if len(models) > 1 else path, time_ns)
        own = dumps({"model": model, "first": model == models[0]})
        writer.text(TAG, meta if model == models[0] else own, time_ns)
        writer.text(f"{TAG}/model", own, time_ns)
        for row in rows:
            if row.model == model:
                writer.scalars(row)
        writer.close()


def read(path: Path) -> list[Run]:
    """Every TensorBoard run under ``path``: a folder of runs, a run's folder or one file."""
    files = [path] if path.is_file() else sorted(path.rglob(PATTERN))
    if not files:
        raise FormatError(f"no TensorBoard event files under {path}")
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    root = path.parent if path.is_file() else path
    runs = []
    ours: dict[Path, Run] = {}
    for folder, parts in folders.items():
        name = root.name if folder == root else str(folder.relative_to(root))
        run, model = _read_run(name, parts)
        if model is None:
            runs.append(run)
            continue
        run.rows = [row._replace(model=model) for row in run.rows]
        group = folder.parent if folder.name == f"model_{model}" else folder
        if group in ours:
            _join(ours[group], run)
        else:
            ours[group] = run
            runs.append(run)
    return runs


def _join(whole: Run, part: Run) -> None:
    whole.rows = sorted([*whole.rows, *part.rows], key=lambda row: row.time_ns)
    if part.events:
        whole.session, whole.events = part.session, part.events


def _read_run(name: str, files: list[Path]) -> tuple[Run, int | None]:
    loaders = library("tensorboard.backend.event_processing.event_file_loader")
    arrays = library("tensorboard.util.tensor_util")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of its missing TensorFlow
    run, model = Run({"name": name}, []), None
    left_out: dict[str, None] = {}
    for file in files:
        for event in loaders.EventFileLoader(str(file)).Load():
            metrics: dict[str, float] = {}
            for value in event.summary.value:
                array = arrays.make_ndarray(value.tensor)
                if value.tag == f"{TAG}/model":
                    model = json.loads(array.item())["model"]
                elif value.tag == TAG:
                    meta = json.loads(array.item())
                    if "session" in meta:
                        run.session = meta["session"]
                        run.events = [(at, entry) for at, entry in meta["events"]]
                elif array.size == 1 and array.dtype.kind in "fiub":
                    metrics[value.tag] = float(array.item())
                else:
                    left_out[value.tag] = None
            if metrics:
                _add_row(run, round(event.wall_time * 1e9), event.step, metrics)
    if left_out:
        run.session["config"] = {**run.session.get("config", {}), "leftOut": list(left_out)}
    return run, model


def _add_row(run: Run, time_ns: int, step: int, metrics: dict[str, float]) -> None:
    last = run.rows[-1] if run.rows else None
    same = last is not None and (last.time_ns, last.step) == (time_ns, step)
    if last is not None and same and not last.metrics.keys() & metrics.keys():
        run.rows[-1] = last._replace(metrics={**last.metrics, **metrics})
    else:
        run.rows.append(Row(time_ns, step, 0, metrics))
