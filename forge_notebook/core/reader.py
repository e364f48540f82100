"""Reading a log, also while it grows. A reader that meets damage looks for the next record whose
sync, checksum and seq are right, and counts what lies between.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from forge_notebook.core.frames import (
    COLUMNS,
    CRC,
    EVENT,
    HEAD,
    MAX_PAYLOAD,
    POINT,
    POINTS,
    RANK_SHIFT,
    SESSION,
    VERSION,
    Point,
    Record,
    Rows,
    alike,
    frame_end,
    next_frame,
    rank_and_seq,
    row_struct,
)
from forge_notebook.core.wire import dumps

_CHUNK = 4 << 20
# What the fold takes for granted. A right checksum does not say who made it: whoever has an ingest
# token may send any bytes, and one session must not stop the viewers of all.
_FIELDS: dict[int, dict[str, type]] = {
    SESSION: {"time": int},
    COLUMNS: {"id": int, "names": list},
    EVENT: {"time": int, "event": str},
}
_KINDS = {POINTS, *_FIELDS}
_ALIKE = (0, 8), (HEAD.size + POINT.size - 4, HEAD.size + POINT.size)  # kind, model and columns
_MOST = 256  # points in one Rows


class _Columns(NamedTuple):
    """A columns record: its names, and how their values, and a whole row of them, are packed."""

    names: tuple[str, ...]
    values: struct.Struct
    row: struct.Struct


def _columns(names: tuple[str, ...]) -> _Columns:
    return _Columns(names, struct.Struct(f"<{len(names)}d"), row_struct(len(names)))


def last_seq(path: Path, rank: int = 0) -> int:
    """The seq of the last readable record of a rank; 0 for a log that is not there yet."""
    reader = Reader(path)
    while reader.read(grouped=True):
        pass
    return reader.newest.get(rank, 0)


class Reader:
    """Reads a log as it grows, from any offset on. Never raises on what it finds in the file.

    ``seq`` counts the records of all ranks together, in the order of the file, so every reader
    gives every record the same number. The metrics of a rank above 0 carry it in their name.
    """

    def __init__(self, path: Path, *, counts_on: bool = True) -> None:
        self.path = path
        self._counts_on = counts_on  # the seq of a log begun anew goes on: one writer, which knows
        self.offset = 0
        self.seq = 0
        self.lost = 0  # records whose seq never arrived
        self._file: os.stat_result | None = None
        self._before = b""  # the checksum that ends at offset, to know the file again
        self.newest: dict[int, int] = {}  # seq of each rank
        self._columns: dict[tuple[int, int], _Columns] = {}

    def read(self, limit: int = 100_000, *, grouped: bool = False) -> list[Record]:
        """The complete records that came since the last call, at most ``limit`` of them.

        With ``grouped``, rows that are alike come as one Rows, at a quarter of the cost of each.
        """
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            self._begin_anew()
            return []
        except OSError:
            return []
        if self._file is not None and self._is_another(self._file, now):
            self._begin_anew()
        self._file = now
        if now.st_size <= self.offset:
            return []
        records: list[Record] = []
        left, size = limit, _CHUNK
        while left > 0 and self.offset < now.st_size:
            data = self._load(size)
            if data is None:
                self._begin_anew()
                continue
            used, left = self._parse(data, records, left, grouped)
            self.offset += used
            if used:
                self._before = data[used - CRC.size : used]
            elif len(data) < size or size > 2 * MAX_PAYLOAD:
                break
            else:
                size *= 4
        return records

    def frozen(self) -> dict[str, Any]:
        """How far this is, as plain values."""
        columns = [(*key, known.names) for key, known in self._columns.items()]
        seqs = {"seq": self.seq, "lost": self.lost, "newest": dict(self.newest)}
        return {"offset": self.offset, "columns": columns, **seqs}

    def thaw(self, frozen: dict[str, Any]) -> None:
        """Go on where another reader of the same log was."""
        self.offset, self.seq, self.lost = frozen["offset"], frozen["seq"], frozen["lost"]
        self.newest = dict(frozen["newest"])
        for rank, number, names in frozen["columns"]:
            self._columns[rank, number] = _columns(names)

    def _is_another(self, before: os.stat_result, now: os.stat_result) -> bool:
        """Whether the file is not the one that was read; a longer one shows when it is loaded."""
        if now.st_ino != before.st_ino or now.st_size < self.offset:
            return True
        touched = now.st_size == self.offset and now.st_mtime_ns != before.st_mtime_ns
        return touched and self._load(0) is None

    def _begin_anew(self) -> None:
        """Another file is in the log's place. Where its seq goes on, nothing doubles."""
        self.offset, self._before = 0, b""
        if not self._counts_on:
            self.newest.clear()

    def _load(self, size: int) -> bytes | None:
        """The bytes at offset; None where those before it are not the ones that were read.

        The next file gets the inode number of a removed one, and may have outgrown it by now.
        """
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset - len(self._before))
                if file.read(len(self._before)) != self._before:
                    return None
                return file.read(size)
        except OSError:
            return b""

    def _parse(
        self, data: bytes, records: list[Record], left: int, grouped: bool
    ) -> tuple[int, int]:
        """How many bytes were taken, and how many records may still come."""
        at = 0
        while left > 0:
            if grouped and (taken := self._group(data, at, min(left, _MOST), records)):
                at, left = at + taken[0], left - taken[1]
                continue
            end = frame_end(data, at)
            if end <= 0:
                # Incomplete or damaged. A right record further on proves that it is damaged.
                found = next_frame(data, at + 1, self.newest)
                if found < 0:
                    break
                at = found
                continue
            left -= self._take(data, at, end, records)
            at = end
        return at, left

    def _group(
        self, log: bytes, at: int, most: int, records: list[Record]
    ) -> tuple[int, int] | None:
        """Take the rows that are alike, where they are several: how many bytes, and rows."""
        length = int.from_bytes(log[at + 4 : at + 8], "little")
        after = at + HEAD.size + length + CRC.size
        if length > MAX_PAYLOAD or len(log) < 2 * after - at:
            return None
        for begin, end in _ALIKE:  # a quick look at the next one
            if log[at + begin : at + end] != log[after + begin : after + end]:
                return None
        stored = HEAD.unpack_from(log, at)[4]
        if HEAD.unpack_from(log, after)[4] != stored + 1:
            return None
        rank, own = rank_and_seq(stored)
        model, number = POINT.unpack_from(log, at + HEAD.size)[2:]
        known, new = self._columns.get((rank, number)), own - self.newest.get(rank, 0)
        most = min(most, (1 << RANK_SHIFT) - own)  # behind that begins the next rank
        found = [] if known is None or new <= 0 else alike(log, at, known.row, most)
        if known is None or len(found) < 2:
            return None
        _, _, times, steps, _, _, *values, _ = zip(*found, strict=True)
        rows = Rows(times, steps, model, known.names, tuple(values))
        records.append(Record(self.seq + new, POINTS, rows))
        self.lost += new - 1
        self.newest[rank] = own + len(found) - 1
        self.seq += new + len(found) - 1
        return len(found) * known.row.size, len(found)

    def _take(self, log: bytes, at: int, end: int, records: list[Record]) -> bool:
        """Take one record; whether it is one for the caller."""
        _, kind, version, _, stored = HEAD.unpack_from(log, at)
        rank, own = rank_and_seq(stored)
        new = own - self.newest.get(rank, 0)
        if new <= 0 and kind != COLUMNS:
            return False
        payload = log[at + HEAD.size : end - CRC.size]
        known_format = 1 <= version <= VERSION
        data: Any = None
        if known_format:
            data = self._point(rank, payload) if kind == POINTS else _said(kind, payload)
        if kind == COLUMNS and data is not None:
            names = tuple(f"{n} (rank {rank})" if rank else str(n) for n in data["names"])
            self._columns[rank, data["id"]] = _columns(names)
        if new <= 0:
            return False
        self.lost += new - 1
        self.newest[rank] = own
        self.seq += new
        if data is None:  # of a newer release, whose numbers may mean something else, or no sense
            self.lost += not known_format or kind in _KINDS
        elif kind != COLUMNS:
            records.append(Record(self.seq, kind, data))
            return True
        return False

    def _point(self, rank: int, payload: bytes) -> Point | None:
        """The row; None where its columns record was damaged, or is not of this row."""
        try:
            time_ns, step, model, columns = POINT.unpack_from(payload)
            known = self._columns[rank, columns]
            values = known.values.unpack_from(payload, POINT.size)
        except (struct.error, KeyError):
            return None
        return Point(time_ns, step, model, known.names, values)


def _said(kind: int, payload: bytes) -> dict[str, Any] | None:
    """The JSON object of a record; None where it is none, lacks a field, or cannot be sent on."""
    fields = _FIELDS.get(kind)
    if fields is None:
        return None
    try:
        value = json.loads(payload)
        dumps(value).encode()  # NaN and infinities, halves of surrogate pairs
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("data", {}), dict):
        return None
    fits = all(isinstance(value.get(name), of) for name, of in fields.items())
    return value if fits and abs(value.get("time", 0)) < 1 << 63 else None


def read_log(path: Path, *, grouped: bool = False) -> Iterator[Record]:
    """Every readable record of a log, once; ``grouped`` as for a Reader."""
    reader = Reader(path)
    while records := reader.read(grouped=grouped):
        yield from records
