"""One Socket.IO client: its transport, its queue, its heartbeat. A viewer like any other."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from typing import Protocol

from forge_notebook.core.wire import dumps
from forge_notebook.server import engineio
from forge_notebook.server.conversation import MAX_MESSAGE, Conversation, Limits
from forge_notebook.server.engineio import ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT, MESSAGE
from forge_notebook.server.frames import Outlet, text_frame
from forge_notebook.server.hub import Hub
from forge_notebook.server.viewer import Batch

CONNECT_TIMEOUT_S = 10  # a transport whose client never sends CONNECT is closed
MAX_QUEUE = 1 << 20  # characters that wait for a client which does not poll
MAX_BODY = MAX_MESSAGE


class Socket(Protocol):
    """The WebSocket of a client."""

    outlet: Outlet

    def close(self) -> None:
        """Close it."""


class SioClient:
    """A connection by polling, by WebSocket, or by the one after the other.

    Queued text is what waits for the next poll. A client that does not come for it gets no more
    than the hub's backlog allows, and is closed when its heartbeat is not answered.
    """

    period_s = 1

    def __init__(
        self,
        hub: Hub,
        limits: Limits,
        *,
        user: str,
        client: str,
        forget: Callable[[SioClient], None],
    ) -> None:
        self.sid = secrets.token_urlsafe(16)
        self.user = user  # whoever opened it; nobody else may use its sid
        self._client = client  # whose sockets count together with it
        self.socket: Socket | None = None
        self.probing: Socket | None = None
        self.polled = False  # whether a poll waits
        self.closed = False
        self.busy = asyncio.Lock()  # packets of one client are taken in order
        self._hub = hub
        self._forget = forget
        self._queue: list[str] = []
        self._queued = 0
        self._more = asyncio.Event()
        self._connected = False
        self._born = self._pinged = self._heard = time.monotonic()
        self._conversation = Conversation(hub, self, limits)
        hub.crowd.enter(client)
        hub.pulse.add(self)

    # Out

    def send(self, batch: Batch) -> int:
        """Send the messages by the transport of the moment."""
        if self.closed:
            return 0
        if self.socket is not None:
            return self.socket.outlet.write(batch.form(engineio.event_frames))
        self._enqueue(batch.form(engineio.event_packets))
        return self._queued

    def backlog(self) -> int:
        """What waits: in the queue of a polling client, in the buffer of a WebSocket."""
        return self._queued if self.socket is None else self.socket.outlet.backlog()

    def packet(self, text: str) -> None:
        """Send one Engine.IO packet."""
        if self.closed:
            return
        if self.socket is not None:
            self.socket.outlet.write(text_frame(text.encode()))
        else:
            self._enqueue(text)

    def _enqueue(self, text: str) -> None:
        if self._queued > MAX_QUEUE:  # beyond what the hub's limit lets happen
            self.close()
            return
        self._queue.append(text)
        self._queued += len(text)
        self._more.set()

    async def poll(self, wait_s: float) -> str:
        """What waits for a polling client; empty where nothing came in time."""
        self._heard = time.monotonic()
        if not self._queue and not self.closed:
            self._more.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._more.wait(), wait_s)
        self._heard = time.monotonic()
        return self._drain()

    def _drain(self) -> str:
        text = engineio.SEPARATOR.join(self._queue)
        self._queue.clear()
        self._queued = 0
        return text

    # Upgrade from polling to WebSocket

    def probe(self, socket: Socket) -> None:
        """The client tries a WebSocket: answer there, and let the waiting poll go."""
        self.probing = socket
        socket.outlet.write(text_frame((engineio.PONG + "probe").encode()))
        self._enqueue(engineio.NOOP)

    def upgrade(self, socket: Socket) -> None:
        """The client goes on by WebSocket; what waited for a poll follows it."""
        self.probing, self.socket = None, socket
        waiting = [
            p for p in self._drain().split(engineio.SEPARATOR) if p not in ("", engineio.NOOP)
        ]
        socket.outlet.write(b"".join(text_frame(packet.encode()) for packet in waiting))
        self._more.set()

    # In

    async def take(self, packet: str) -> None:
        """One Engine.IO packet of the client. Raises BadPacket."""
        self._heard = time.monotonic()
        kind, rest = packet[:1], packet[1:]
        if kind == MESSAGE:
            await self._message(engineio.parse_packet(rest))
        elif kind == engineio.CLOSE:
            self.close()
        elif kind == engineio.PING:
            self.packet(engineio.PONG + rest[:100])
        elif kind not in (engineio.PONG, engineio.NOOP, engineio.UPGRADE):
            raise engineio.BadPacket("not an Engine.IO packet")

    async def _message(self, packet: engineio.Packet) -> None:
        if packet.kind == CONNECT and packet.namespace != "/":
            refusal = dumps({"message": "Invalid namespace"})
            self.packet(f"{MESSAGE}{CONNECT_ERROR}{packet.namespace[:100]},{refusal}")
        elif packet.kind == CONNECT:
            self._connected = True
            self.packet(f"{MESSAGE}{CONNECT}{dumps({'sid': secrets.token_urlsafe(16)})}")
        elif packet.kind == DISCONNECT and packet.namespace == "/":
            self.close()
        elif packet.kind == EVENT and packet.namespace == "/":
            if not self._connected:
                raise engineio.BadPacket("send CONNECT before events")
            await self._event(packet)

    async def _event(self, packet: engineio.Packet) -> None:
        event, data = packet.data[0], packet.data[1] if len(packet.data) > 1 else None
        refusal = await self._conversation.take(event, data)
        if packet.ack:
            answer = {"success": True} if refusal is None else {"success": False, **refusal}
            self.packet(f"{MESSAGE}{ACK}{packet.ack}{dumps([answer])}")

    # Life

    def beat(self) -> None:
        """Each second: ping in time, and close what does not answer or never connected."""
        now = time.monotonic()
        silent = now - self._heard > engineio.PING_INTERVAL_S + engineio.PING_TIMEOUT_S
        if silent or (not self._connected and now - self._born > CONNECT_TIMEOUT_S):
            self.close()
        elif now - self._pinged >= engineio.PING_INTERVAL_S and not self.backlog():
            self._pinged = now
            self.packet(engineio.PING)

    def close(self) -> None:
        """End the connection, whatever its transport; closing twice does nothing."""
        if self.closed:
            return
        self.closed = True
        self._hub.pulse.remove(self)
        self._hub.crowd.leave(self._client)
        self._conversation.close()
        self._queue = [engineio.CLOSE]
        self._more.set()
        self._forget(self)
        for socket in (self.socket, self.probing):
            if socket is not None:
                socket.close()
