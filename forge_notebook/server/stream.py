"""The WebSocket: one socket follows any number of sessions."""

from __future__ import annotations

import time
from typing import Any

from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import ensure_async
from tornado import web
from tornado.websocket import WebSocketHandler

from forge_notebook.core.wire import HEARTBEAT
from forge_notebook.server.base import RESOURCE, Discreet, client_of
from forge_notebook.server.conversation import MAX_MESSAGE, BadMessage, Conversation, parse
from forge_notebook.server.crowd import TooManyOfClient, TooManyViewers
from forge_notebook.server.frames import Outlet, event_frames
from forge_notebook.server.hub import Hub
from forge_notebook.server.viewer import Batch

STALLED_BEATS = 4  # a viewer that took nothing for a minute is gone, or will come back by itself


class SocketHandler(WebSocketMixin, WebSocketHandler, Discreet):
    """A WebSocket of ours: Jupyter's authentication, no deflate, none of the mixin's timers."""

    auth_resource = RESOURCE
    _track_activity = False
    # WebSocketMixin's are milliseconds and shadow Tornado's seconds (jupyter_server 1612, 1695);
    # our heartbeat does the work of both.
    ping_interval = None
    ping_timeout = None
    max_message_size = 4 * MAX_MESSAGE  # Tornado closes what is larger (1009) before it is read

    @property
    def hub(self) -> Hub:
        """The hub of this server."""
        hub: Hub = self.settings["forge_hub"]
        return hub

    def set_default_headers(self) -> None:
        """No headers of a page on an upgraded connection."""

    def get_compression_options(self) -> None:
        """Off: +27 us and 145 KB for each viewer (measured), and it forbids the shared frame."""
        return None

    async def authorize_reading(self) -> None:
        """Raises HTTPError 403 where the authorizer does not let this user read."""
        allowed = await ensure_async(
            self.authorizer.is_authorized(self, self.current_user, "read", self.auth_resource)
        )
        if not allowed:
            raise web.HTTPError(403)

    def admit(self) -> None:
        """Raises HTTPError 503 where all places are taken, 429 where this client's are."""
        try:
            self.hub.crowd.admit(client_of(self))
        except TooManyViewers as error:
            raise web.HTTPError(503, "%s", str(error)) from error
        except TooManyOfClient as error:
            raise web.HTTPError(429, "%s", str(error)) from error


class StreamHandler(SocketHandler):
    """``stream``: SPEC's events as ``{event, data}``, both ways."""

    period_s = 15  # proxies cut sockets that are idle for 60 s

    @ws_authenticated
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Upgrade, for a user who may read."""
        await self.authorize_reading()
        self.admit()
        await super().get(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> None:
        """A viewer came."""
        self.set_nodelay(True)
        self._outlet = Outlet(self)
        self._stalled = 0
        self._conversation = Conversation(self.hub, self, self.settings["forge_limits"])
        self._client = client_of(self)
        self.hub.crowd.enter(self._client)
        self.hub.pulse.add(self)

    def on_close(self) -> None:
        """The viewer left."""
        if hasattr(self, "_conversation"):
            self.hub.pulse.remove(self)
            self.hub.crowd.leave(self._client)
            self._conversation.close()

    def beat(self) -> None:
        """A heartbeat; a viewer whose network took nothing for some beats is let go."""
        self._stalled = self._stalled + 1 if self.backlog() else 0
        if self._stalled >= STALLED_BEATS:
            self._outlet.abort()
        elif not self._stalled:
            self.send(Batch([(HEARTBEAT, {"time": round(time.time(), 3)})]))

    def send(self, batch: Batch) -> int:
        """Send the messages; on a closed socket nothing happens, ``on_close`` tidies up."""
        return self._outlet.write(batch.form(event_frames))

    def backlog(self) -> int:
        """Bytes that wait for this viewer's network."""
        return self._outlet.backlog()

    async def on_message(self, message: str | bytes) -> None:
        """One request of the viewer. Whatever is wrong with it, the socket stays open."""
        try:
            value = parse(message)
            if not isinstance(value, dict):
                raise BadMessage('send {"event": ..., "data": {...}}')
        except BadMessage as error:
            self._conversation.refuse(error)
        else:
            await self._conversation.take(value.get("event"), value.get("data"))
