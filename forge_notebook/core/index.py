"""A long session as its fold left it, kept beside the log so that nobody folds it a second time.

Derived: one file, ``index.bin``, replaced as a whole, checked whole when it is read, deleted at any
time without loss, and written by readers only, never by a process that writes the log. It holds how
far the log was read, the state, and the columns, which are mapped and not loaded.
"""

from __future__ import annotations

import io
import logging
import mmap
import os
import pickle
import struct
import sys
import tempfile
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from forge_notebook.core.writer import writes

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

NAME = "index.bin"
WORTH_BYTES = 8 << 20  # of log that was folded and is in no index: about 100,000 rows
TAIL = 4096  # bytes of log before the place where reading goes on, to know the log again
_HEAD = struct.Struct("<8sIIQ")  # magic, code, checksum of the pickle, its length
_MAGIC = b"forgeix1"
# What the pickle may name. Any other class or function is refused before it is called.
_CLASSES = {
    "forge_notebook.core.alerts": {"Alert", "FiniteWatch", "ModelWatch", "StallWatch", "Watch"},
    "forge_notebook.core.losswatch": {"Course", "LossWatch"},
    "forge_notebook.core.follower": {"Event"},
    "forge_notebook.core.grokking": {"GrokTracker"},
    "forge_notebook.core.model": {"ModelState"},
    "forge_notebook.core.progress": {"Clock"},
    "forge_notebook.core.session": {"SessionState"},
    "forge_notebook.core.status": {"Status"},
    "collections": {"deque"},
}  # fmt: skip


class Kept(NamedTuple):
    """What is kept: plain state, and arrays by name."""

    offset: int
    state: dict[str, Any]
    arrays: dict[Any, NDArray[Any]]


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _CLASSES.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} has no place in an index")
        return super().find_class(module, name)


@cache
def _code() -> int:
    """Checksum of the code whose objects are kept: another version folds anew."""
    found = 0
    for module in sorted(_CLASSES):
        if module != "collections":
            file = sys.modules[module].__file__ or ""
            found = zlib.crc32(Path(file).read_bytes(), found)
    return found


def read(run_log: Path) -> Kept | None:
    """What is kept of a log; None where nothing is, or it is damaged, or not of this log."""
    path = run_log.with_name(NAME)
    try:
        with open(path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return _parse(data, run_log)
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever stands in the file, the log says it all again
        log.info("%s is of no use (%s); the log is read instead", path, error)
        return None


def _parse(data: memoryview, run_log: Path) -> Kept | None:
    magic, code, checksum, length = _HEAD.unpack_from(data)
    head = data[_HEAD.size : _HEAD.size + length]
    if magic != _MAGIC or code != _code() or zlib.crc32(head) != checksum:
        return None
    found = _Plain(io.BytesIO(head)).load()
    if _tail(run_log, found["offset"]) != found["tail"]:
        return None
    arrays: dict[Any, NDArray[Any]] = {}
    for key, dtype, begin, count, crc in found["arrays"]:
        array = np.frombuffer(data, dtype=dtype, count=count, offset=begin)
        if zlib.crc32(array.data) != crc:
            return None
        arrays[key] = array
    return Kept(found["offset"], found["state"], arrays)


def write(run_log: Path, kept: Kept) -> None:
    """Keep it. Does nothing where this process writes the log, or the folder takes no file."""
    if writes(run_log):
        return
    begin, table = 0, []
    for key, array in kept.arrays.items():
        crc = zlib.crc32(array.data)
        table.append((key, array.dtype.str, begin, len(array), crc))
        begin += array.nbytes
    try:
        tail = _tail(run_log, kept.offset)
        head = _pack(kept, tail, table)
        with tempfile.NamedTemporaryFile(
            dir=run_log.parent, prefix=".index-", delete=False
        ) as file:
            try:
                file.write(_HEAD.pack(_MAGIC, _code(), zlib.crc32(head), len(head)))
                file.write(head)
                for array in kept.arrays.values():
                    file.write(array.data)
                file.flush()
                os.replace(file.name, run_log.with_name(NAME))
            except BaseException:
                with suppress(OSError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        log.info("%s: no index was kept (%s)", run_log.parent.name, error)


def _pack(kept: Kept, tail: int, table: list[tuple[Any, str, int, int, int]]) -> bytes:
    """The pickle, padded so that the arrays behind it are aligned; their places count from the
    beginning of the file, and so depend on its length, which is therefore made sure first."""

    def pickled(base: int) -> bytes:
        placed = [(key, dtype, base + at, count, crc) for key, dtype, at, count, crc in table]
        whole = {"offset": kept.offset, "tail": tail, "state": kept.state, "arrays": placed}
        return pickle.dumps(whole, protocol=4)

    room = len(pickled(1 << 40)) + 64  # the longest place there could be
    room += -(_HEAD.size + room) % 64
    return pickled(_HEAD.size + room).ljust(room, b".")


def _tail(run_log: Path, offset: int) -> int:
    with open(run_log, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < offset:
            return -1
        file.seek(max(0, offset - TAIL))
        return zlib.crc32(file.read(min(TAIL, offset)))
