"""The store: a folder of sessions, each a folder of its own."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from pathlib import Path

from forge_notebook.core.errors import InvalidSessionId, SessionBusy, UnknownSession
from forge_notebook.core.listing import Listed, Listing
from forge_notebook.core.runlog import Reader, has_writer
from forge_notebook.core.session import SessionState
from forge_notebook.core.wire import SessionStatus

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z")


def store_path() -> Path:
    """``$FORGE_STORE``, else ``forge_notebook`` in Jupyter's data folder."""
    configured = os.environ.get("FORGE_STORE")
    if configured:
        return Path(configured).expanduser()
    from jupyter_core.paths import jupyter_data_dir  # here: only the default needs it

    return Path(jupyter_data_dir()) / "forge_notebook"


def new_session_id(name: str) -> str:
    """A readable, unique id: the name, the second, and four random bytes.

    The jobs of an array begin in the same second: with two bytes, half of the arrays of 300 had
    two of the same id.
    """
    return f"{slug(name)}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"


def slug(name: str) -> str:
    """What of a name can stand at the beginning of an id."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "session"


def check_session_id(session_id: str) -> str:
    """The id itself. Raises InvalidSessionId where it could be anything but one folder's name."""
    if not isinstance(session_id, str) or not _ID.match(session_id):
        raise InvalidSessionId(
            "a session id is 1 to 100 letters, digits, '-' and '_', starting with a letter or digit"
        )
    return session_id


class Catalog:
    """Lists, finds and deletes the sessions of one store; keeps what it read of each log."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._known: dict[str, tuple[Reader, SessionState]] = {}
        self._listing = Listing(store)
        self._listed: dict[str, Listed] | None = None  # sessions that nobody writes, from the index

    def folder(self, session_id: str) -> Path:
        """The folder of a session. Raises InvalidSessionId or UnknownSession."""
        folder = self.store / check_session_id(session_id)
        if not (folder / "run.log").is_file():
            raise UnknownSession(f"no session {session_id!r} in this store")
        return folder

    def ids(self) -> list[str]:
        """The ids of all sessions."""
        return list(self._logs())

    def _logs(self) -> dict[str, os.stat_result]:
        """Every session's log."""
        found: dict[str, os.stat_result] = {}
        try:
            with os.scandir(self.store) as entries:
                names = [entry.name for entry in entries if _ID.match(entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            return found
        root = os.fspath(self.store)
        for name in names:
            with contextlib.suppress(OSError):
                found[name] = os.stat(f"{root}/{name}/run.log")
        return found

    def state(self, session_id: str) -> SessionState:
        """The session folded up to now."""
        folder = self.folder(session_id)
        if session_id not in self._known:
            self._known[session_id] = self._begin(folder)
        reader, state = self._known[session_id]
        while records := reader.read(grouped=True):
            for record in records:
                state.apply(record)
        state.lost = reader.lost
        return state

    def _begin(self, folder: Path) -> tuple[Reader, SessionState]:
        """Where the index beside a long log ends, else at its beginning."""
        from forge_notebook.core import index  # numpy: not for the import of the package

        reader = Reader(folder / "run.log")
        found = index.read(reader.path)
        if found is None:
            return reader, SessionState(folder.name)
        reader.thaw(found.state["reader"])
        return reader, found.state["state"]

    def status(self, session_id: str, *, detail: bool = True) -> SessionStatus:
        """The session as viewers get it."""
        state = self.state(session_id)
        return state.wire(alive=has_writer(self.folder(session_id) / "run.log"), detail=detail)

    def sessions(self) -> list[SessionStatus]:
        """Every session without its details, newest first."""
        if self._listed is None:
            self._listed = self._listing.load()
        listed: dict[str, SessionStatus] = {}
        changed: dict[str, Listed] = {}
        for session_id, log in self._logs().items():
            known = self._listed.get(session_id)
            if known is not None and known[:2] == (log.st_size, log.st_mtime_ns):
                listed[session_id] = known.status
                continue
            try:
                status, alive = self._fresh(session_id)
            except UnknownSession:  # deleted between the listing and the reading
                continue
            listed[session_id] = status
            if not alive:
                changed[session_id] = Listed(log.st_size, log.st_mtime_ns, status)
                self._known.pop(session_id, None)
        self._keep(changed, listed)
        return sorted(listed.values(), key=lambda s: (s["startTime"], s["sessionId"]), reverse=True)

    def _fresh(self, session_id: str) -> tuple[SessionStatus, bool]:
        alive = has_writer(self.folder(session_id) / "run.log")
        return self.state(session_id).wire(alive=alive, detail=False), alive

    def _keep(self, changed: dict[str, Listed], listed: dict[str, SessionStatus]) -> None:
        for gone in self._known.keys() - listed.keys():
            del self._known[gone]
        kept = {} if self._listed is None else self._listed
        gone_ids = kept.keys() - listed.keys()
        if not changed and not gone_ids:
            return
        kept.update(changed)
        for gone in gone_ids:
            del kept[gone]
        self._listing.save(changed, gone_ids)

    def delete(self, session_id: str) -> None:
        """Delete a session with all it recorded. Raises SessionBusy while it is being written."""
        folder = self.folder(session_id)
        if has_writer(folder / "run.log"):
            raise SessionBusy(f"session {session_id!r} is running; stop it before deleting it")
        self._known.pop(session_id, None)
        shutil.rmtree(folder)
