"""What a viewer asks for on a socket: the same on the WebSocket and on Socket.IO."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from typing import Any

from forge_notebook.core.errors import ForgeError
from forge_notebook.core.history import MAX_POINTS
from forge_notebook.core.throttle import Throttle
from forge_notebook.core.wire import ERROR, SESSION_HISTORY
from forge_notebook.server.base import MAX_SEQ, integer
from forge_notebook.server.feed import MAX_BACKLOG
from forge_notebook.server.hub import Hub
from forge_notebook.server.sessions import MAX_ROWS
from forge_notebook.server.viewer import Batch, Viewer

log = logging.getLogger(__name__)

EVENTS = ("subscribe_session", "unsubscribe_session", "get_session_history")
MAX_MESSAGE = 64 * 1024


class BadMessage(ForgeError, ValueError):
    """A message that is not one of the contract's."""

    code = "bad_message"


@dataclass(frozen=True)
class Limits:
    """What one connection may ask for."""

    requests_hz: float = 20.0  # above, requests wait; nothing is refused
    burst: int = 100
    subscriptions: int = 256


class Conversation:
    """The requests of one connected viewer."""

    def __init__(self, hub: Hub, viewer: Viewer, limits: Limits) -> None:
        self._hub = hub
        self._viewer = viewer
        self._limits = limits
        self._rate = Throttle(limits.requests_hz, limits.burst)
        self._sessions: set[str] = set()
        self.open = True

    def close(self) -> None:
        """The viewer left."""
        self.open = False
        self._hub.forget(self._viewer)

    async def take(self, event: Any, data: Any) -> dict[str, Any] | None:
        """Answer one request. Whatever is wrong with it is told as an ``error`` event, and
        returned for those who asked for an acknowledgement; None where all is well.

        Waits first while the viewer is too fast, or does not read what it asked for before: its
        next request is not read meanwhile.
        """
        while self.open and not self._rate.ready(time.monotonic()):
            await asyncio.sleep(1 / self._limits.requests_hz)
        while self.open and self._viewer.backlog() > MAX_BACKLOG:
            await asyncio.sleep(0.05)
        try:
            if event not in EVENTS:
                raise BadMessage(f"unknown event; one of {', '.join(EVENTS)}")
            if not isinstance(data, dict):
                raise BadMessage("data must be a JSON object")
            await self._answer(event, data)
        except ForgeError as error:
            return self.refuse(error, event, data)
        except Exception:
            log.exception("forge: %r of a viewer failed", event)
            return self.refuse(InternalError(), event, data)
        return None

    def refuse(self, error: ForgeError, event: Any = None, data: Any = None) -> dict[str, Any]:
        """Tell the viewer what was wrong."""
        told: dict[str, Any] = {"message": str(error), "code": error.code}
        if event in EVENTS:
            told["event"] = event
        if isinstance(data, dict) and isinstance(data.get("sessionId"), str):
            told["sessionId"] = data["sessionId"][:100]
        self._viewer.send(Batch([(ERROR, told)]))
        return told

    async def _answer(self, event: str, data: dict[str, Any]) -> None:
        session_id = data.get("sessionId")
        if not isinstance(session_id, str):
            raise BadMessage("data.sessionId is missing or not text")
        after = data.get("after")
        if after is not None:
            after = integer("after", after, 0, MAX_SEQ)
        if event == "subscribe_session":
            points = integer("points", data.get("points", 1000), 2, MAX_POINTS)
            await self._subscribe(session_id, after, points)
        elif event == "unsubscribe_session":
            self._sessions.discard(session_id)
            self._hub.unsubscribe(self._viewer, session_id)
        else:
            limit = integer("limit", data.get("limit", 100), 1, MAX_ROWS)
            rows = await self._hub.history(session_id, limit, after)
            history = {"sessionId": session_id, "history": rows}
            self._viewer.send(Batch([(SESSION_HISTORY, history)]))

    async def _subscribe(self, session_id: str, after: int | None, points: int) -> None:
        most = self._limits.subscriptions
        if len(self._sessions) >= most and session_id not in self._sessions:
            raise BadMessage(f"one socket follows at most {most} sessions")
        if session_id == "*":
            await self._hub.subscribe_list(self._viewer)
        else:
            await self._hub.subscribe(self._viewer, session_id, after, points)
        self._sessions.add(session_id)
        if not self.open:  # it left while the log was being read
            self._hub.forget(self._viewer)


class InternalError(ForgeError):
    """A mistake of ours; the log holds the details, the viewer gets none."""

    code = "internal"

    def __init__(self) -> None:
        super().__init__("internal error; the server's log has the details")


def parse(message: str | bytes) -> Any:
    """The JSON of a message. Raises BadMessage where it is too large or none."""
    if len(message) > MAX_MESSAGE:
        raise BadMessage(f"message of {len(message)} bytes; at most {MAX_MESSAGE}")
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        raise BadMessage("not JSON") from None
