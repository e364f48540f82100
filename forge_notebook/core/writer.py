"""Appending to a log. Single writer; a disk that fails costs rows, never the training."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from forge_notebook.core.errors import SessionBusy
from forge_notebook.core.frames import (
    COLUMNS,
    CRC,
    EVENT,
    HEAD,
    MAX_PAYLOAD,
    RANK_SHIFT,
    SESSION,
    SYNC,
    VERSION,
    Layout,
    layout,
    lock,
)
from forge_notebook.core.reader import last_seq
from forge_notebook.core.wire import dumps, jsonable

log = logging.getLogger(__name__)

MAX_WAITING = 10_000  # events kept while the disk refuses them
MAX_LAYOUTS = 1 << 16  # a row names its columns in 16 bits


class Writer:
    """Appends records to one log. Single writer: a second one gets SessionBusy.

    I/O errors never reach the caller. A row of metrics that cannot be written is lost: it is
    counted, and its seq stays unused, so that every reader counts it too. Session, columns and
    event records are kept in memory and written, in order, as soon as the file takes them again.
    """

    def __init__(self, path: Path, *, wait_s: float = 0.2, rank: int = 0) -> None:
        self.path = path
        self._rank = rank
        self._rank_lock = -1
        self.lost = 0
        self.seq = rank << RANK_SHIFT
        self.fd = -1
        self.held = True  # rows take the general way: set by who appends them, see ``compiled``
        self.error: OSError | None = None
        # Re-entrant: a signal handler may log, or finish, while the main thread is in here.
        self.lock = threading.RLock()
        self.waiting: deque[tuple[int, bytes]] = deque()
        # How many at its front are being written: by what signal handlers have interrupted.
        self._in_flight = 0
        self._begun = False
        self._layouts: dict[tuple[str, ...], Layout] = {}
        self._head: list[tuple[int, bytes]] = []  # what a new file needs to be readable by itself
        self._open(wait_s)
        _writers_of_this_process.add(self)

    def _open(self, wait_s: float) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            self._fails(error)
            return
        if not self._lock(fd, wait_s):
            os.close(fd)
            raise SessionBusy(
                f"{self.path.parent.name} is being written by another process; "
                "stop that one, or start a session of another name"
            )
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = fd
        self._begun = True
        # Under the lock: nobody of this rank appends meanwhile.
        base = self._rank << RANK_SHIFT
        self.seq = max(self.seq, base + last_seq(self.path, self._rank))

    def _lock(self, fd: int, wait_s: float) -> bool:
        """Rank 0's lock is on the log itself and says that the session is alive."""
        if self._rank == 0:
            return lock(fd, wait_s=wait_s)
        if self._rank_lock < 0:
            path = self.path.with_name(f"rank-{self._rank}.lock")
            self._rank_lock = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        return lock(self._rank_lock, wait_s=wait_s)

    def append_json(self, kind: int, value: Mapping[str, object]) -> None:
        """Append a session or event record. Raises ValueError where it is too large for one."""
        value = jsonable(value)
        payload = dumps(value).encode()
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(
                f"record of {len(payload)} bytes; at most {MAX_PAYLOAD} fit one record"
            )
        with self.lock:
            if kind == SESSION:
                self._head.append((kind, dumps({**value, "again": True}).encode()))
            self._wait(kind, payload)
            self._write_waiting()

    def append_point(
        self, step: int, model: int, metrics: Mapping[str, float], time_ns: int | None = None
    ) -> None:
        """Append one row of metrics, stamped with the present time or the one given.

        Raises struct.error where a value is not a number: the caller names the metric.
        """
        try:
            pack, head, columns, _ = self.layout(tuple(metrics))
        except OSError as error:
            self.drop(error)
            return
        with self.lock:
            if self.waiting:
                self._write_waiting()
            time_ns = time_ns or time.time_ns()
            values = tuple(metrics.values())
            if len(self.waiting) > self._in_flight:
                pack(head, 0, time_ns, step, model, columns, *values)  # raises all the same
                self.seq += 1
                self.lost += 1
            elif not self._append(
                lambda seq: pack(head, seq, time_ns, step, model, columns, *values)
            ):
                self.seq += 1
                self.lost += 1

    def layout(self, names: tuple[str, ...]) -> Layout:
        """How rows of these metrics are packed; writes their columns record if it is new.

        Raises OSError above MAX_LAYOUTS.
        """
        known = self._layouts.get(names)
        if known is not None:
            return known
        with self.lock:
            if names not in self._layouts:
                number = len(self._layouts)
                if number >= MAX_LAYOUTS:
                    raise OSError(errno.EOVERFLOW, f"more than {MAX_LAYOUTS} sets of metrics")
                record = (COLUMNS, dumps({"id": number, "names": names}).encode())
                self._head.append(record)
                self._wait(*record)
                self._write_waiting()
                self._layouts[names] = layout(number, len(names))
            return self._layouts[names]

    def _wait(self, kind: int, payload: bytes) -> None:
        if kind == EVENT and len(self.waiting) >= MAX_WAITING:
            self.seq += 1
            self.lost += 1
        else:
            self.waiting.append((kind, payload))

    def _write_waiting(self) -> None:
        while len(self.waiting) > self._in_flight:
            record = self.waiting[self._in_flight]
            if not self._append(partial(_json_frame, record), record):
                return

    def _append(
        self, make: Callable[[int], bytes], record: tuple[int, bytes] | None = None
    ) -> bool:
        """Write one frame; takes ``record`` out of those that wait.

        A signal handler may append while the frame is being made, so the last thing before the
        write is to look whether the seq is still free; CPython runs handlers after calls, and
        there is none in between. One that comes right after the write finds the record still
        waiting, and leaves it alone because it is in flight.
        """
        while True:
            seq = self.seq + 1
            frame = make(seq)
            frame += CRC.pack(zlib.crc32(frame))
            if record is not None and not self._is_next(record):
                return True
            if self.seq + 1 == seq:
                break
        self.seq = seq
        self._in_flight += record is not None
        try:
            written = os.write(self.fd, frame)
            if written != len(frame):
                raise OSError(errno.ENOSPC, f"{written} of {len(frame)} bytes written")
        except OSError as error:
            self._in_flight -= record is not None
            self.seq = seq - 1
            self._fails(error)
            return False
        except BaseException:  # a signal handler's, after the write
            self._landed(record)
            raise
        self._landed(record)
        if self.error is not None:
            log.warning("%s: recording again; %d rows were lost", self.path, self.lost)
            self.error = None
        return True

    def _landed(self, record: tuple[int, bytes] | None) -> None:
        if record is not None:
            del self.waiting[self._in_flight - 1]
            self._in_flight -= 1

    def _is_next(self, record: tuple[int, bytes]) -> bool:
        at = self._in_flight
        return len(self.waiting) > at and self.waiting[at] is record

    def _fails(self, error: OSError) -> None:
        if self.error is None:
            if error.errno == errno.EBADF:
                error = OSError(errno.EBADF, "closed, or the copy of a forked process")
            log.error("%s: cannot record (%s); losses are counted", self.path, error)
        self.error = error

    def drop(self, error: OSError) -> None:
        """Count one row that cannot be recorded."""
        with self.lock:
            self.seq += 1
            self.lose(error)

    def lose(self, error: OSError) -> None:
        """Count one row that was not written, whose seq is used up already."""
        self._fails(error)
        self.lost += 1

    def keep_file(self) -> None:
        """Retry what waits; reopen the log where it was removed under us. Called now and then."""
        if self.waiting:
            with self.lock:
                self._write_waiting()
        gone = self._gone()
        if gone is False or self._in_flight:  # the next round comes soon
            return
        with self.lock:
            if self not in _writers_of_this_process:
                return
            begun, old = self._begun, self.fd
            try:
                self._open(wait_s=0.05)
            except SessionBusy as error:
                self._fails(OSError(errno.EBUSY, str(error)))
            if self.fd != old:
                if begun:
                    log.warning("%s: the log was removed; recording goes on in another", self.path)
                    waits = set(self.waiting)
                    self.waiting.extendleft(r for r in reversed(self._head) if r not in waits)
                self._write_waiting()
            elif gone:
                self._let_go()

    def _gone(self) -> bool | None:
        """Whether another file or none is at the log's place; None where that cannot be told."""
        try:
            return not os.path.samestat(os.fstat(self.fd), os.stat(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return None

    def _let_go(self) -> None:
        """Nobody reads the removed file: rows count as lost, events wait for a new one."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def sync(self) -> None:
        """Force the log to the disk: it then survives a crash of the machine as well."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            if self.error is None:
                log.error("%s: fsync failed (%s)", self.path, error)

    def close(self) -> None:
        """Sync, release the lock and close. Appending afterwards counts as lost."""
        if self.fd >= 0:
            self.sync()
        self.abandon()

    def abandon(self) -> None:
        """Close without syncing: also what a forked child does with its parent's log."""
        _writers_of_this_process.discard(self)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._rank_lock >= 0:
            os.close(self._rank_lock)
            self._rank_lock = -1


class SilentWriter(Writer):
    """Takes everything and writes nothing: the process is one of several, and not rank 0."""

    def _open(self, wait_s: float) -> None:
        pass

    def _append(
        self, make: Callable[[int], bytes], record: tuple[int, bytes] | None = None
    ) -> bool:
        if record is not None:
            self.waiting.popleft()
        return True

    def keep_file(self) -> None:
        """There is none."""


def _json_frame(record: tuple[int, bytes], seq: int) -> bytes:
    kind, payload = record
    return HEAD.pack(SYNC, kind, VERSION, len(payload), seq) + payload


_writers_of_this_process: set[Writer] = set()


def writes(path: Path) -> bool:
    """Whether this process is the one that writes the log."""
    return any(writer.path == path for writer in _writers_of_this_process)


def _forget_writers() -> None:
    # A forked child (DataLoader worker) shares the file and the lock: one seq, two writers.
    for writer in list(_writers_of_this_process):
        writer.lock = threading.RLock()
        writer.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_writers)
