"""Engine.IO 4 and Socket.IO 5 packets, as far as SPEC's dashboards speak them.

Text only, namespace ``/``: no binary packets, no msgpack. Nothing of Tornado here.
https://socket.io/docs/v4/engine-io-protocol and https://socket.io/docs/v4/socket-io-protocol.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from forge_notebook.core.errors import ForgeError
from forge_notebook.core.wire import Message, dumps
from forge_notebook.server.frames import text_frame

OPEN, CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP = "0123456"
CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR = "01234"
SEPARATOR = "\x1e"  # between the packets of one polling body
PING_INTERVAL_S = 25
PING_TIMEOUT_S = 20

# code and text of a refusal, as the protocol's own servers give them
UNKNOWN_TRANSPORT = (0, "Transport unknown")
UNKNOWN_SID = (1, "Session ID unknown")
BAD_REQUEST = (3, "Bad request")
UNSUPPORTED = (5, "Unsupported protocol version")

_PACKET = re.compile(r"([0-6])(?:(/[^,\x00-\x1f]*),)?([0-9]{0,15})(.*)\Z", re.DOTALL)


class BadPacket(ForgeError, ValueError):
    """Not a packet of the protocol, or one of a kind that is not served."""

    code = "bad_packet"


class Packet(NamedTuple):
    """One Socket.IO packet as a client sent it."""

    kind: str
    namespace: str
    ack: str  # digits, or empty
    data: Any


def parse_packet(text: str) -> Packet:
    """A Socket.IO packet, what follows Engine.IO's ``4``. Raises BadPacket."""
    match = _PACKET.match(text)
    if match is None:
        raise BadPacket("not a Socket.IO packet")
    kind, namespace, ack, body = match.groups()
    if kind in "56":
        raise BadPacket("binary packets are not served")
    try:
        data = json.loads(body) if body else None
    except (ValueError, RecursionError):
        raise BadPacket("the packet is not JSON") from None
    if kind == EVENT and not (isinstance(data, list) and data and isinstance(data[0], str)):
        raise BadPacket("an event is a list that begins with its name")
    return Packet(kind, namespace or "/", ack, data)


def handshake(sid: str, *, upgrades: Sequence[str], max_payload: int) -> str:
    """The first packet that a new connection gets."""
    data = {
        "sid": sid,
        "upgrades": list(upgrades),
        "pingInterval": PING_INTERVAL_S * 1000,
        "pingTimeout": PING_TIMEOUT_S * 1000,
        "maxPayload": max_payload,
    }
    return OPEN + dumps(data)


def event_packets(messages: Sequence[Message]) -> str:
    """The messages as Socket.IO events, for polling."""
    return SEPARATOR.join(f"{MESSAGE}{EVENT}{dumps(list(message))}" for message in messages)


def event_frames(messages: Sequence[Message]) -> bytes:
    """The messages as Socket.IO events, each in a WebSocket frame of its own."""
    return b"".join(
        text_frame(f"{MESSAGE}{EVENT}{dumps(list(message))}".encode()) for message in messages
    )
