"""Watches which sessions run, for the server around us: events, activity, counters, retention.

Only sessions with a writer are read, and each once more when it has none any more: a store of
thousands of old sessions costs a look at their locks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forge_notebook.core.errors import ForgeError
from forge_notebook.core.runlog import has_writer
from forge_notebook.core.wire import SessionStatus
from forge_notebook.server import prometheus
from forge_notebook.server.hub import Hub
from forge_notebook.server.news import News, NewsDesk

log = logging.getLogger(__name__)

EVENT_SCHEMA = Path(__file__).parent / "event_schemas" / "session.yaml"
EVENT_ID = "https://github.com/forge-notebook/forge_notebook/events/session/v1"
WATCH_S = 2.0
RETIRE_S = 3600.0
DAY_S = 86_400.0


class Lifecycle:
    """One task beside the hub.

    ``emit`` gets each change of a status as ``{session_id, name, status, error}``; ``active`` is
    called while a session runs; ``tell`` gets what is worth a message (``server.news``);
    ``retain_days`` (0: for ever) deletes sessions that nobody has written for so long, and with
    ``dry_run`` only says which.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        emit: Callable[[dict[str, Any]], object],
        active: Callable[[], object],
        tell: Callable[[News], object] | None = None,
        retain_days: float = 0.0,
        dry_run: bool = True,
    ) -> None:
        self._hub = hub
        self._emit = emit
        self._active = active
        self._tell = tell
        self._desk = NewsDesk()
        self._ids: set[str] | None = None  # all there were in the last round
        self._followed: set[str] = set()
        self._retain_s = retain_days * DAY_S
        self._dry_run = dry_run
        self._live: dict[str, str] = {}  # sessions with a writer: the status last told
        self._sent = 0
        self._next_retirement = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin watching."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("forge lifecycle: a round failed; the next one tries again")
            await asyncio.sleep(WATCH_S)

    async def look(self) -> None:
        """One round."""
        ids, writers = await self._hub.in_thread(self._present)
        changed = await self._hub.in_thread(self._changes, writers)
        for status in changed:
            self._emit(
                {
                    "session_id": status["sessionId"],
                    "name": status["name"],
                    "status": status["status"],
                    "error": status["error"],
                }
            )
        if self._tell is not None:
            for news in await self._hub.in_thread(self._news, ids, writers):
                self._tell(news)
        if writers:
            self._active()
        prometheus.LIVE.set(len(writers))
        prometheus.VIEWERS.set(len(self._hub.crowd))
        sent, self._sent = self._hub.messages_sent - self._sent, self._hub.messages_sent
        prometheus.MESSAGES.inc(sent)
        if self._retain_s and time.monotonic() >= self._next_retirement:
            self._next_retirement = time.monotonic() + RETIRE_S
            await self._retire()

    def _present(self) -> tuple[set[str], set[str]]:
        """All sessions, and those with a writer."""
        catalog = self._hub.catalog
        ids = set(catalog.ids())
        return ids, {i for i in ids if has_writer(catalog.store / i / "run.log")}

    def _changes(self, writers: set[str]) -> list[SessionStatus]:
        catalog, changed = self._hub.catalog, []
        for session_id in writers | self._live.keys():
            try:
                status = catalog.status(session_id, detail=False)
            except ForgeError:  # deleted
                self._live.pop(session_id, None)
                continue
            if self._live.get(session_id) != status["status"]:
                self._live[session_id] = status["status"]
                changed.append(status)
            if session_id not in writers:
                del self._live[session_id]
        return changed

    def _news(self, ids: set[str], writers: set[str]) -> list[News]:
        """Of sessions with a writer, of those that have just lost it, and of those that came and
        went between two rounds: a training that fails at once."""
        catalog, found = self._hub.catalog, []
        new = ids - self._ids if self._ids is not None else set()
        for session_id in writers | self._followed | new:
            try:
                state = catalog.state(session_id)
            except ForgeError:
                self._desk.forget(session_id)
                continue
            # One that is just being made may have no writer yet: the next round tells.
            found += self._desk.look(state, alive=session_id in writers | new)
        self._ids, self._followed = ids, writers | new
        return found

    async def _retire(self) -> None:
        for session_id in await self._hub.in_thread(self._old):
            if self._dry_run:
                log.warning("forge retention (dry run): would delete session %s", session_id)
                continue
            try:
                await self._hub.delete(session_id)
            except ForgeError as error:  # somebody resumed it meanwhile, or deleted it
                log.info("forge retention: %s", error)
                continue
            log.warning("forge retention: deleted session %s", session_id)
            prometheus.DELETED.inc()

    def _old(self) -> list[str]:
        store, limit = self._hub.catalog.store, time.time() - self._retain_s
        found = []
        for session_id in self._hub.catalog.ids():
            path = store / session_id / "run.log"
            try:
                if path.stat().st_mtime < limit and not has_writer(path):
                    found.append(session_id)
            except OSError:  # deleted meanwhile
                continue
        return found
