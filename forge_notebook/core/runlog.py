"""The run log: an append-only file of checksummed records; the only truth of a session.

One record is one ``write(2)``: once an append has returned, the record survives SIGKILL of the
process (a crash of the machine needs ``sync``). ``frames`` says what a record looks like,
``writer`` appends, ``compiled`` appends as fast as Python can, ``reader`` reads.
"""

from __future__ import annotations

from forge_notebook.core.frames import EVENT, POINTS, SESSION, Point, Record, Rows, has_writer
from forge_notebook.core.reader import Reader, last_seq, read_log
from forge_notebook.core.writer import SilentWriter, Writer

__all__ = [
    "EVENT",
    "POINTS",
    "SESSION",
    "Point",
    "Reader",
    "Record",
    "Rows",
    "SilentWriter",
    "Writer",
    "has_writer",
    "last_seq",
    "read_log",
]
