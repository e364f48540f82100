"""Socket.IO for existing dashboards: polling, WebSocket, and the upgrade between them.

Our own handler because python-socketio's, mounted as documented, lets anybody in (tests/server/
test_socketio_faults.py names what goes wrong there).
"""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import allow_unauthenticated, ws_authenticated
from tornado import web

from forge_notebook.core.errors import ForgeError
from forge_notebook.core.wire import dumps
from forge_notebook.server import engineio
from forge_notebook.server.base import client_of
from forge_notebook.server.engineio import (
    BAD_REQUEST,
    SEPARATOR,
    UNKNOWN_SID,
    UNKNOWN_TRANSPORT,
    UNSUPPORTED,
    BadPacket,
)
from forge_notebook.server.frames import Outlet, text_frame
from forge_notebook.server.sioclient import MAX_BODY, SioClient
from forge_notebook.server.stream import SocketHandler

POLL_S = engineio.PING_INTERVAL_S + engineio.PING_TIMEOUT_S
MAX_PACKETS = 64  # in one body


class SocketIOHandler(SocketHandler):
    """``socket.io/``: the same events as ``stream``, in Socket.IO's packets."""

    client: SioClient | None = None
    polling = False  # whether this request is a poll that waits
    outlet: Outlet

    @property
    def clients(self) -> dict[str, SioClient]:
        """The connected clients by sid."""
        clients: dict[str, SioClient] = self.settings.setdefault("forge_sio_clients", {})
        return clients

    def set_default_headers(self) -> None:
        """What an answer to a poll may and may not be used for."""
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")

    def check_xsrf_cookie(self) -> None:
        """A live sid of this very user stands for the token: it is random, was given to an
        authenticated reader of the same origin only, and no foreign page can read it. The client
        library cannot send Jupyter's header."""
        if not hasattr(self, "_jupyter_current_user"):
            return
        if self._known() is None:
            super().check_xsrf_cookie()

    # HTTP

    @ws_authenticated
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Open, poll, or upgrade."""
        await self.authorize_reading()
        sid, transport = self.get_query_argument("sid", None), self._argument("transport")
        if self._argument("EIO") != "4":
            return self._refuse(UNSUPPORTED)
        if transport not in ("polling", "websocket"):
            return self._refuse(UNKNOWN_TRANSPORT)
        if sid is not None and self._known() is None:
            return self._refuse(UNKNOWN_SID)
        if transport == "polling" and not self.check_origin():
            raise web.HTTPError(403)
        if sid is None:
            self.admit()
        if transport == "websocket":
            return await super().get(*args, **kwargs)
        self.client = self._known() or self._new_client()
        if sid is None:
            return self._reply(
                engineio.handshake(self.client.sid, upgrades=["websocket"], max_payload=MAX_BODY)
            )
        await self._poll(self.client)

    @ws_authenticated
    async def post(self, *args: Any, **kwargs: Any) -> None:
        """Packets of a polling client."""
        await self.authorize_reading()
        client = self._known()
        if client is None or client.socket is not None:
            return self._refuse(UNKNOWN_SID)
        if not self.check_origin():
            raise web.HTTPError(403)
        body = self.request.body
        try:
            packets = body.decode().split(SEPARATOR)
            if len(body) > MAX_BODY or len(packets) > MAX_PACKETS:
                raise BadPacket("the body is too large")
            async with client.busy:
                for packet in packets:
                    await client.take(packet)
        except (BadPacket, UnicodeDecodeError):
            client.close()
            return self._refuse(BAD_REQUEST)
        self._reply("ok")

    @allow_unauthenticated
    def options(self, *args: Any, **kwargs: Any) -> None:
        """A preflight says what may be sent; who may send is Jupyter's matter."""
        self.set_header("Access-Control-Allow-Headers", "accept, content-type, authorization")
        self.set_header("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
        self.set_status(204)
        self.finish()

    async def _poll(self, client: SioClient) -> None:
        if client.polled or client.socket is not None:  # the protocol: one poll at a time
            client.close()
            return self._refuse(BAD_REQUEST)
        client.polled = self.polling = True
        try:
            text = await client.poll(POLL_S)
        finally:
            client.polled = self.polling = False
        self._reply(text or engineio.NOOP)

    def _new_client(self) -> SioClient:
        client = SioClient(
            self.hub,
            self.settings["forge_limits"],
            user=self._owner(),
            client=client_of(self),
            forget=self._forget,
        )
        self.clients[client.sid] = client
        return client

    def _forget(self, client: SioClient) -> None:
        self.clients.pop(client.sid, None)

    def _known(self) -> SioClient | None:
        client = self.clients.get(self.get_query_argument("sid", ""))
        return client if client and self.current_user and client.user == self._owner() else None

    def _owner(self) -> str:
        """Who may use a sid. Jupyter makes up a new name for each request with its one token."""
        return "token" if self.token_authenticated else f"user {self.current_user.username}"

    def _argument(self, name: str) -> str:
        return str(self.get_query_argument(name, ""))

    def _reply(self, text: str) -> None:
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(text)

    def _refuse(self, refusal: tuple[int, str]) -> None:
        code, message = refusal
        self.set_status(400)
        self.set_header("Content-Type", "application/json")
        self.finish(dumps({"code": code, "message": message}))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Errors as the protocol has them, not as a page."""
        cause = getattr(kwargs.get("exc_info", (None, None))[1], "__cause__", None)
        message = str(cause) if isinstance(cause, ForgeError) else self._reason
        self.set_header("Content-Type", "application/json")
        self.finish(dumps({"code": 4 if status_code == 403 else 3, "message": message}))

    # WebSocket

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Upgraded: a new client, or the second transport of one that polls."""
        self.set_nodelay(True)
        self.outlet = Outlet(self)
        known = self._known()
        if known is None and self.get_query_argument("sid", None) is not None:
            self.close()  # it left in between
        elif known is None:
            self.client = self._new_client()
            self.client.socket = self
            self.outlet.write(
                text_frame(
                    engineio.handshake(self.client.sid, upgrades=[], max_payload=MAX_BODY).encode()
                )
            )
        elif known.socket is not None or known.probing is not None:
            self.close()
        else:
            self.client = known

    async def on_message(self, message: str | bytes) -> None:
        """One packet."""
        client = self.client
        if client is None:
            return
        try:
            if isinstance(message, bytes) or len(message) > MAX_BODY:
                raise BadPacket("text up to the announced size is served")
            if client.socket is not self:
                self._upgrade(client, message)
            else:
                await client.take(message)
        except BadPacket:
            client.close()
            self.close()

    def _upgrade(self, client: SioClient, message: str) -> None:
        if message == engineio.PING + "probe":
            client.probe(self)
        elif message == engineio.UPGRADE and client.probing is self:
            client.upgrade(self)
        else:
            raise BadPacket("only a probe and an upgrade come before the upgrade")

    def on_close(self) -> None:
        """The transport is gone, and with it the client if it lived there."""
        if self.client is None:
            return
        if self.client.probing is self:
            self.client.probing = None
        elif self.client.socket is self or self.polling:
            self.client.close()  # an answer that nobody takes would be lost: it must come anew
