"""What the list shows of sessions that nobody writes any more, kept beside them.

Derived from the logs: keyed by each log's size and time of change, read by whoever lists the store,
deleted at any time without loss. Never opened by a training process. SQLite with its rollback
journal, because stores lie on network file systems, where a WAL does not work.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from forge_notebook.core.wire import SessionStatus, dumps

log = logging.getLogger(__name__)

NAME = ".catalog.sqlite"
VERSION = 1  # of what is kept; another one begins anew
BUSY_S = 0.2


class Listed(NamedTuple):
    """A session as it stood when its log had this size and time of change."""

    size: int
    mtime_ns: int
    status: SessionStatus


class Listing:
    """The file. Whatever fails here costs time only: the logs say the same."""

    def __init__(self, store: Path) -> None:
        self.path = store / NAME

    def load(self) -> dict[str, Listed]:
        """Everything that is kept."""
        if not self.path.exists():
            return {}
        try:
            with self._open() as db:
                rows = db.execute("SELECT id, size, mtime_ns, status FROM sessions").fetchall()
            statuses = json.loads(
                f"[{','.join(row[3] for row in rows)}]"
            )  # one call: 10,000 of them
            return {
                row[0]: Listed(row[1], row[2], cast(SessionStatus, status))
                for row, status in zip(rows, statuses, strict=True)
            }
        except (sqlite3.Error, ValueError) as error:
            log.warning("%s is of no use (%s); it is made anew from the logs", self.path, error)
            with contextlib.suppress(OSError):
                self.path.unlink()
            return {}

    def save(self, changed: Mapping[str, Listed], gone: Iterable[str]) -> None:
        """Keep what changed. Does nothing where the store cannot be written or another reader is
        just doing the same."""
        try:
            with self._open() as db:
                rows = [(i, s.size, s.mtime_ns, dumps(s.status)) for i, s in changed.items()]
                db.executemany("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)", rows)
                db.executemany("DELETE FROM sessions WHERE id = ?", [(i,) for i in gone])
        except (sqlite3.Error, OSError) as error:
            log.debug("%s was not written: %s", self.path, error)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_S)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                db.execute("DROP TABLE IF EXISTS sessions")
                db.execute(
                    "CREATE TABLE sessions (id TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER,"
                    " status TEXT) WITHOUT ROWID"
                )
                db.execute(f"PRAGMA user_version = {VERSION}")
            with db:
                yield db
