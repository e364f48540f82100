"""SPEC's three GETs, the list of sessions, long poll, and deletion."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado import web

from forge_notebook.core.errors import UnknownSession
from forge_notebook.core.status import Status
from forge_notebook.server.base import MAX_SEQ, ForgeHandler

MAX_ROWS = 1000
MAX_WAIT_S = 30.0


class StatusHandler(ForgeHandler):
    """``GET status/<id>``: everything but the curve."""

    @web.authenticated
    @authorized
    async def get(self, session_id: str) -> None:
        self.answer(await self.hub.in_thread(self.hub.catalog.status, session_id))


class MetricsHandler(ForgeHandler):
    """``GET metrics/<id>``: SPEC's 12 fields now."""

    @web.authenticated
    @authorized
    async def get(self, session_id: str) -> None:
        self.answer(await self.hub.in_thread(self._metrics, session_id))

    def _metrics(self, session_id: str) -> dict[str, Any] | None:
        """In the thread of files: it alone folds the catalog's states."""
        state = self.hub.catalog.state(session_id)
        metrics = state.metrics()
        return None if metrics is None else {**metrics, "seq": state.seq}


class HistoryHandler(ForgeHandler):
    """``GET history/<id>?limit=&after=``: rows of SPEC's 12 fields."""

    @web.authenticated
    @authorized
    async def get(self, session_id: str) -> None:
        limit = self.integer("limit", 100, 1, MAX_ROWS)
        after = self.integer("after", None, 0, MAX_SEQ)
        self.answer(await self.hub.history(session_id, limit, after))


class SessionsHandler(ForgeHandler):
    """``GET sessions?status=&limit=&after=``: newest first; ``after`` is a session id."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        limit = self.integer("limit", MAX_ROWS, 1, MAX_ROWS)
        status = self.get_query_argument("status", None)
        if status is not None and status not in [s.value for s in Status]:
            raise web.HTTPError(400, "status=%r: give one of %s", status, ", ".join(Status))
        sessions = await self.hub.in_thread(self.hub.catalog.sessions)
        after = self.get_query_argument("after", None)
        if after is not None:
            ids = [session["sessionId"] for session in sessions]
            if after not in ids:
                raise UnknownSession(f"after={after!r}: give the id of a session in the list")
            sessions = sessions[ids.index(after) + 1 :]
        self.answer([s for s in sessions if status in (None, s["status"])][:limit])


class SessionHandler(ForgeHandler):
    """``DELETE sessions/<id>``."""

    @web.authenticated
    @authorized
    async def delete(self, session_id: str) -> None:
        await self.hub.delete(session_id)
        self.answer({"sessionId": session_id})


class PollHandler(ForgeHandler):
    """``GET poll/<id>?after=&wait=``: the stream's messages by long poll."""

    @web.authenticated
    @authorized
    async def get(self, session_id: str) -> None:
        after = self.integer("after", None, 0, MAX_SEQ)
        wait_s = min(MAX_WAIT_S, max(0.0, self.number("wait", 0.0)))
        if after is None:
            follower = (await self.hub.feed(session_id)).follower
            seq, messages = follower.sent, follower.opening(None)
        else:
            seq, messages = await self.hub.poll(session_id, after, wait_s, self.client())
        listed = [{"event": event, "data": data} for event, data in messages]
        self.answer({"sessionId": session_id, "seq": seq, "messages": listed})
