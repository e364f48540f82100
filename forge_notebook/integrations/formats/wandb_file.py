"""W&B's ``run-*.wandb`` files: a LevelDB log of protobuf records, read without W&B's library.

Layout: 7 bytes of header, then blocks of 32 KiB with chunks ``crc (4) | length (2) | type (1)``;
field numbers from W&B's public ``wandb_internal.proto``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forge_notebook.integrations.formats.loose import nanoseconds, number
from forge_notebook.integrations.formats.run import FormatError, Row, Run

BLOCK = 32_768
HEADER = 7
_CHUNK = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
# Record's fields
HISTORY, CONFIG, RUN, EXIT = 2, 5, 17, 18
Fields = dict[int, list[Any]]


def read(path: Path) -> list[Run]:
    """The run of one file; a torn end, as after a crash, is left out."""
    data = path.read_bytes()
    if data[:4] != b":W&B":
        raise FormatError(f"{path.name} is not a W&B run file")
    run = Run({"name": path.stem.removeprefix("run-"), "config": {}}, [])
    for record in _records(data):
        try:
            _take(run, _decode(record))
        except (ValueError, IndexError, struct.error) as error:
            raise FormatError(f"{path.name} has a record that cannot be read: {error}") from None
    return [run]


def _take(run: Run, fields: Fields) -> None:
    for history in fields.get(HISTORY, []):
        _history(run, _decode(history))
    for config in fields.get(CONFIG, []):
        _config(run, _decode(config))
    for about in fields.get(RUN, []):
        _about(run, _decode(about))
    for ended in fields.get(EXIT, []):
        _exit(run, _decode(ended))


def _records(data: bytes) -> Iterator[bytes]:
    at, parts = HEADER, b""
    while at + _CHUNK.size <= len(data):
        if BLOCK - at % BLOCK < _CHUNK.size:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = _CHUNK.unpack_from(data, at)
        chunk = data[at + _CHUNK.size : at + _CHUNK.size + length]
        if len(chunk) < length or not FULL <= kind <= LAST:
            return
        at += _CHUNK.size + length
        parts = chunk if kind in (FULL, FIRST) else parts + chunk
        if kind in (FULL, LAST):
            yield parts


def _decode(message: bytes) -> Fields:
    """Protobuf's wire format: field number -> its values, as integers or bytes."""
    fields: Fields = {}
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number_, kind = key >> 3, key & 7
        value: Any
        if kind == 0:
            value, at = _varint(message, at)
        elif kind == 2:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = message[at : at + size], at + size
        else:
            raise FormatError(f"a record of the W&B file cannot be read (wire type {kind})")
        fields.setdefault(number_, []).append(value)
    return fields


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message):
            raise FormatError("a record of the W&B file ends too early")
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _item(item: bytes) -> tuple[str, Any]:
    """``{key | nested_key, value_json}``, or since 0.31 a value by its type."""
    fields = _decode(item)
    nested = [part.decode() for part in fields.get(2, [])]
    key = ".".join(nested) if nested else fields.get(1, [b""])[0].decode()
    if 16 in fields:
        return key, json.loads(fields[16][0])
    if 4 in fields:
        return key, bool(fields[4][0])
    if 5 in fields:
        whole: int = fields[5][0]
        return key, whole - (1 << 64) if whole >= 1 << 63 else whole
    if 6 in fields:
        return key, struct.unpack("<d", fields[6][0])[0]
    text = fields.get(8, fields.get(7, [None]))[0]
    return key, None if text is None else text.decode()


def _history(run: Run, fields: Fields) -> None:
    values = dict(map(_item, fields.get(1, [])))
    step = values.pop("_step", None)
    if step is None and 2 in fields:
        step = _decode(fields[2][0]).get(1, [0])[0]
    time_ns = nanoseconds(values.pop("_timestamp", None))
    values.pop("_runtime", None)
    metrics = {}
    for name, value in values.items():
        if (found := number(value)) is not None:
            metrics[name] = found
        elif name not in (left := run.session["config"].setdefault("leftOut", [])):
            left.append(name)
    if metrics and step is not None:
        run.rows.append(Row(time_ns or 1, int(step), 0, metrics))


def _config(run: Run, fields: Fields) -> None:
    for key, value in map(_item, fields.get(1, [])):
        if key != "_wandb":
            run.session["config"][key] = value


def _about(run: Run, fields: Fields) -> None:
    if 8 in fields:
        run.session["name"] = fields[8][0].decode()
    for config in fields.get(4, []):
        _config(run, _decode(config))


def _exit(run: Run, fields: Fields) -> None:
    code = fields.get(1, [0])[0]
    time_ns = run.rows[-1].time_ns if run.rows else 1
    event = {"event": "training_completed", "time": time_ns, "step": None, "model": None}
    data: dict[str, Any] = {}
    if code:
        event["event"], data = "training_failed", {"error": f"exit code {code}"}
    run.events.append((len(run.rows), {**event, "data": data}))
