"""What one delivered update costs the server, and what a viewer and a stalled viewer cost."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from forge_notebook.bench import Row, fanout_live
from forge_notebook.recording import Session

STREAM, SOCKET_IO = "/api/training/stream", "/socket.io/?EIO=4&transport=websocket"
NEEDS = {"python-socketio": "socketio", "flask-socketio": "flask_socketio"}
# flask-socketio has a thread for each viewer; python-socketio cannot keep up with more at 10 Hz.
MOST = {"flask-socketio": 1000, "python-socketio": 5000}
AT_ONCE = 100  # viewers that connect together
VARIANTS = ("write_message", "raw send loop", "ours", *NEEDS)


def measure(*, quick: bool, peers: Sequence[str]) -> list[Row]:
    """us CPU of the server for each delivered update, at growing numbers of viewers.

    The references run in the same run; python-socketio and flask-socketio where installed.
    """
    counts = (50, 200) if quick else (100, 1000, 5000, 10_000)
    seconds = 2.0 if quick else 8.0
    rows: list[Row] = []
    for count in counts:
        if not _files_for(count):
            print(f"{count} viewers left out: this process may open too few files (ulimit -Hn)")
            continue
        figures = {}
        for variant in VARIANTS:
            if variant in NEEDS and importlib.util.find_spec(NEEDS[variant]) is None:
                continue
            if count > MOST.get(variant, count):
                continue
            figures[variant] = _run(variant, count, seconds)
        rows += _rows(count, figures)
    rows.append(_stalled(2000 if quick else 200_000))
    try:
        rows += fanout_live.channels(200 if quick else 5000, quick=quick)
    except (OSError, RuntimeError, asyncio.TimeoutError) as error:  # a machine too busy for it
        print(f"kernel round trips left out: {error!r}")
    return rows


def _rows(count: int, figures: dict[str, tuple[float, float, float]]) -> list[Row]:
    reference = figures["write_message"]
    cpu, memory, held = figures["ours"]
    rows = [
        Row(f"fan-out to {count}, CPU per delivered update", cpu, "us", "write_message",
            reference[0], 11.0 if count >= 1000 else None),
        Row(f"fan-out to {count}, memory of a viewer", memory, "KB", "write_message",
            reference[1], 20.0 if count >= 1000 else None),
        Row(f"fan-out to {count}, event loop held at most", held, "ms", "write_message",
            reference[2]),
    ]  # fmt: skip
    rows += [
        Row(f"fan-out to {count}, {name}", figure[0], "us", "write_message", reference[0])
        for name, figure in figures.items()
        if name not in ("ours", "write_message")
    ]
    return rows


def _files_for(count: int) -> bool:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 200
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    return min(wanted, hard) == wanted or hard == resource.RLIM_INFINITY


class Server:
    """One variant in a process of its own."""

    def __init__(self, variant: str, store: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "forge_notebook.bench.fanout_servers", variant],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "FORGE_STORE": store},
        )  # fmt: skip
        self.port = int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def cost(self) -> tuple[float, int, float]:
        """CPU seconds, resident KB, and how long the loop was held, ms."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        cpu, resident, held = json.loads(self._line())
        return cpu, resident, held


@contextmanager
def serving(variant: str, store: str) -> Iterator[Server]:
    """One variant, while it is needed."""
    server = Server(variant, store)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def _run(variant: str, count: int, seconds: float) -> tuple[float, float, float]:
    """us CPU per delivered update, KB of memory per viewer, ms the loop was held."""
    with tempfile.TemporaryDirectory() as store, serving(variant, store) as server:
        session = Session("bench", store=store)
        ended = threading.Event()
        writer = threading.Thread(target=write, args=(session, ended), daemon=True)
        before = server.cost()[1]
        viewers = Viewers(server.port, variant, session.id, count)
        writer.start()  # who comes in mid-broadcast waits for it: thousands would take minutes
        viewers.read(1.0)
        cpu, resident, _ = server.cost()
        delivered = viewers.read(seconds)
        used, _, held = server.cost()
        viewers.close()
        ended.set()
        writer.join()
        session.finish()
    if delivered < count * seconds * 4:  # of ten each second: otherwise it could not keep up
        print(f"{variant}: {delivered} updates reached {count} viewers in {seconds} s")
    return (used - cpu) / delivered * 1e6, (resident - before) / count, held


def write(session: Session, ended: threading.Event) -> None:
    """Ten rows a second until the end."""
    step = 0
    while not ended.wait(0.1):
        step += 1
        session.log(step, loss=1.0 / step)


class Viewers:
    """Many WebSocket clients that count what they get."""

    def __init__(
        self, port: int, variant: str, session_id: str, count: int, token: str = ""
    ) -> None:
        self._ready = selectors.DefaultSelector()
        self._left: dict[int, tuple[int, bytes]] = {}  # bytes to skip, and an unfinished head
        first = json.dumps({"event": "subscribe_session", "data": {"sessionId": session_id}})
        path = SOCKET_IO if variant in NEEDS else STREAM
        for begin in range(0, count, AT_ONCE):
            some = [asked(port, path, token) for _ in range(min(AT_ONCE, count - begin))]
            for client in some:
                upgraded(client)
                client.sendall(masked("40" if variant in NEEDS else first))
                client.setblocking(False)
                self._ready.register(client, selectors.EVENT_READ)
                self._left[client.fileno()] = (0, b"")

    def read(self, seconds: float) -> int:
        """Read for so long; how many frames arrived."""
        frames = 0
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in self._ready.select(left):
                client: Any = key.fileobj
                try:
                    data = client.recv(1 << 16)
                except BlockingIOError:
                    continue
                if not data:
                    raise RuntimeError("the server closed a viewer's socket")
                frames += self._count(key.fd, data)
        return frames

    def _count(self, fd: int, data: bytes) -> int:
        skip, head = self._left[fd]
        data, frames = head + data, 0
        while True:
            if skip >= len(data):
                self._left[fd] = (skip - len(data), b"")
                return frames
            data, skip = data[skip:], 0
            extra = {126: 2, 127: 8}.get(data[1], 0) if len(data) > 1 else 0
            if len(data) < 2 + extra:
                self._left[fd] = (0, data)
                return frames
            length = int.from_bytes(data[2 : 2 + extra], "big") if extra else data[1]
            data, skip = data[2 + extra :], length
            frames += 1

    def close(self) -> None:
        """Close every client."""
        for key in list(self._ready.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._ready.close()


def asked(port: int, path: str, token: str = "") -> socket.socket:
    """A connection that has asked to be upgraded."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        f"{f'Authorization: token {token}' if token else 'X-Bench: 1'}\r\n\r\n".encode()
    )
    return client


def upgraded(client: socket.socket) -> socket.socket:
    """The WebSocket, once the server has agreed. Raises RuntimeError where it does not."""
    reply = b""
    while not reply.endswith(b"\r\n\r\n"):
        more = client.recv(1)
        if not more or len(reply) > 4096:
            raise RuntimeError(f"no upgrade: {reply!r}")
        reply += more
    return client


def masked(text: str) -> bytes:
    """A client's text frame."""
    data = text.encode()
    return bytes([0x81, 0x80 | len(data)]) + bytes(4) + data


def _stalled(updates: int) -> Row:
    """Memory that one viewer costs which never reads, in MB."""
    with tempfile.TemporaryDirectory() as store, serving("ours", store) as server:
        session = Session("bench", store=store)
        reader = Viewers(server.port, "ours", session.id, 1)
        reader.read(0.5)
        without = _flood(server, session, reader, updates)
        stalled = upgraded(asked(server.port, STREAM))
        request = {"event": "subscribe_session", "data": {"sessionId": session.id}}
        stalled.sendall(masked(json.dumps(request)))
        reader.read(0.5)
        cost = _flood(server, session, reader, updates)
        stalled.close()
        reader.close()
        session.finish()
    # The curve in the server's memory grows by as much in both floods.
    name = f"memory of a viewer that never reads, {updates} updates"
    return Row(name, max(0.0, cost - without) / 1024, "MB", goal=1.0)


def _flood(server: Server, session: Session, reader: Viewers, updates: int) -> float:
    before = server.cost()[1]
    for _ in range(updates // 100):
        for _ in range(100):
            session.log(loss=1.0)
        reader.read(0.01)
    reader.read(0.5)
    return float(server.cost()[1] - before)
