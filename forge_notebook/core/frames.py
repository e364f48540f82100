"""The frame of a log, and the lock that says who writes it.

Frame, little-endian::

    sync (2) | kind (1) | version (1) | payload length (4) | seq (8) | payload | crc32 (4)

The checksum covers everything before it. ``seq`` counts records from 1 and is stored, so that a
reader knows exactly how many records a damaged or full disk has cost. A points record holds the
time in ns, the step, the model, the number of its columns record, then one float64 a metric.
Several ranks of one training may append to one log; the upper 16 bits of the seq are the rank, and
each rank counts for itself.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SYNC = b"\xf5\x1e"
VERSION = 1
SESSION, COLUMNS, POINTS, EVENT = 1, 2, 3, 4

HEAD = struct.Struct("<2sBBIQ")
CRC = struct.Struct("<I")
POINT = struct.Struct("<qqHH")  # time ns, step, model, columns id
MAX_PAYLOAD = 16 << 20
RANK_SHIFT = 48  # 2^48 records of one rank: 89 years at 100,000 a second
MAX_RANK = (1 << 16) - 1
_OVERHEAD = HEAD.size + CRC.size


class Point(NamedTuple):
    """One ``log()`` call: the metrics of one model at one step."""

    time_ns: int
    step: int
    model: int
    names: tuple[str, ...]
    values: tuple[float, ...]


class Rows(NamedTuple):
    """Points of one model and one set of metrics that follow each other without a gap.

    ``values`` holds the values of each metric, as long as ``times_ns`` and ``steps``.
    """

    times_ns: tuple[int, ...]
    steps: tuple[int, ...]
    model: int
    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, data: Point | Rows) -> Rows:
        """A point as rows of one; rows as they are."""
        if isinstance(data, Rows):
            return data
        return cls((data.time_ns,), (data.step,), data.model, data.names, tuple(zip(data.values)))


class Record(NamedTuple):
    """A record as a reader sees it: ``data`` is a Point, or the decoded JSON object.

    Or Rows: as many records, of which the first has this ``seq``.
    """

    seq: int
    kind: int
    data: Any


class Layout(NamedTuple):
    """How the rows of one set of metrics are packed: ``pack(head, seq, time_ns, step, model,
    columns, *values)`` gives the frame without its checksum; ``size`` counts that as well."""

    pack: Any
    head: int
    columns: int
    size: int


def _row_head(payload: int) -> bytes:
    """How a row begins: all of its head but the seq."""
    return HEAD.pack(SYNC, POINTS, VERSION, payload, 0)[:8]


def _row_format(metrics: int) -> str:
    """What comes after that: seq, time, step, model, columns, values."""
    return f"Q{POINT.format[1:]}{metrics}d"


def layout(columns: int, metrics: int) -> Layout:
    """The layout of rows of so many metrics, named by the columns record of that number."""
    body = struct.Struct(f"<Q{_row_format(metrics)}")
    head = int.from_bytes(_row_head(body.size - HEAD.size), "little")
    return Layout(body.pack, head, columns, body.size + CRC.size)


def frame_end(data: bytes, at: int) -> int:
    """Where the frame at ``at`` ends; 0 where it is not complete, -1 where it is not right."""
    if len(data) - at < _OVERHEAD:
        return 0
    sync, _, _, length, _ = HEAD.unpack_from(data, at)
    if sync != SYNC or length > MAX_PAYLOAD:
        return -1
    end: int = at + _OVERHEAD + length
    if end > len(data):
        return 0
    checked = end - CRC.size
    return end if (zlib.crc32(data[at:checked]),) == CRC.unpack_from(data, checked) else -1


def row_struct(metrics: int) -> struct.Struct:
    """A whole row of so many metrics: head, seq, time, step, model, columns, values, checksum."""
    return struct.Struct(f"<8s{_row_format(metrics)}{CRC.format[1:]}")


def alike(data: bytes, at: int, row: struct.Struct, most: int) -> list[tuple[Any, ...]]:
    """The rows that begin at ``at``, at most ``most``, while they are right, of one model and one
    set of metrics, and without a gap; none where there is no such row."""
    found: list[tuple[Any, ...]] = []
    view = memoryview(data)[at:]
    place, end = 0, row.size - CRC.size
    head, seq, models = _row_head(row.size - _OVERHEAD), -1, None
    for fields in row.iter_unpack(view[: min(most, len(view) // row.size) * row.size]):
        if models is None:
            seq, models = fields[1], fields[4:6]
        right = fields[0] == head and fields[1] == seq and fields[4:6] == models
        if not right or fields[-1] != zlib.crc32(view[place:end]):
            break
        found.append(fields)
        place, end, seq = place + row.size, end + row.size, seq + 1
    return found


def rank_and_seq(stored: int) -> tuple[int, int]:
    """The rank that wrote a record, and how many it had written by then."""
    return stored >> RANK_SHIFT, stored & ((1 << RANK_SHIFT) - 1)


def next_frame(data: bytes, at: int, newest: Mapping[int, int]) -> int:
    """Where the next right frame begins that is newer than the newest of its rank; -1 where there
    is none."""
    while (at := data.find(SYNC, at)) >= 0:
        if frame_end(data, at) > 0:
            rank, seq = rank_and_seq(HEAD.unpack_from(data, at)[4])
            if seq > newest.get(rank, 0):
                return at
        at += 1
    return -1


def lock(fd: int, *, wait_s: float = 0.0) -> bool:
    """Take the exclusive lock of an open file; False when another holder keeps it."""
    if fcntl is None:
        return True
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)


def has_writer(path: Path) -> bool:
    """Whether a live process holds the log open for writing (the lock dies with its process)."""
    if fcntl is None:
        return True
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
