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
from typing import Any, NamedTuple

from forge_notebook.bench import Row, fanout_live
from forge_notebook.recording import Session

STREAM, SOCKET_IO = "/api/training/stream", "/socket.io/?EIO=4&transport=websocket"
NEEDS = {"python-socketio": "socketio", "flask-socketio": "flask_socketio"}
RAW = "raw send loop"
# flask-socketio has a thread for each viewer; the others cannot keep up with more at 10 Hz.
MOST = {"flask-socketio": 1000, "python-socketio": 5000, "write_message": 5000}
AT_ONCE = 100  # viewers that connect together
START_S = 20.0
RATIO = 1.3  # to a raw send loop: 11 us where a send cost 8.6
HZ = 10
VARIANTS = (RAW, "ours", "write_message", *NEEDS)


def measure(*, quick: bool, peers: Sequence[str]) -> list[Row]:
    """us CPU of the server for each delivered update, at growing numbers of viewers.

    The references run in the same run; python-socketio and flask-socketio where installed.
    """
    counts = (50, 200) if quick else (100, 1000, 5000, 10_000)
    seconds = 1.0 if quick else 4.0
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


class Figures(NamedTuple):
    """What one variant cost, and whether it kept up."""

    cpu_us: float  # for each delivered update
    memory_kb: float  # for each viewer
    held_ms: float  # the longest that the event loop left others waiting
    rate_hz: float  # updates per second that a viewer got, of ``HZ``


def _rows(count: int, figures: dict[str, Figures]) -> list[Row]:
    raw, ours = figures[RAW], figures["ours"]
    many = count >= 1000
    name = f"fan-out to {count}"
    rows = [
        Row(f"{name}, CPU per delivered update", ours.cpu_us, "us", RAW, raw.cpu_us),
        Row(f"{name}, CPU beside a raw send loop", ours.cpu_us / raw.cpu_us, "x",
            goal=RATIO if many else None),
        Row(f"{name}, updates per second of {HZ}", ours.rate_hz, "Hz", RAW, raw.rate_hz),
        Row(f"{name}, memory of a viewer", ours.memory_kb, "KB", RAW, raw.memory_kb,
            20.0 if many else None),
        Row(f"{name}, event loop held at most", ours.held_ms, "ms", RAW, raw.held_ms),
    ]  # fmt: skip
    rows += [
        Row(f"{name}, {other}", figure.cpu_us, "us", RAW, raw.cpu_us,
            note=f"{figure.rate_hz:.1f} Hz")
        for other, figure in figures.items()
        if other not in ("ours", RAW)
    ]  # fmt: skip
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
        self._wait()

    def _wait(self) -> None:
        """Until it takes connections: flask-socketio names its port before it listens."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=START_S).close()
                return
            except ConnectionRefusedError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def resident(self) -> int:
        """Resident KB."""
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    def cost(self) -> tuple[float, int, float]:
        """CPU seconds, resident KB, and how long the loop was held, ms. The first call starts the
        updates of whoever does not follow a session."""
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


def _run(variant: str, count: int, seconds: float) -> Figures:
    with tempfile.TemporaryDirectory() as store, serving(variant, store) as server:
        session = Session("bench", store=store)
        ended = threading.Event()
        writer = threading.Thread(target=write, args=(session, ended), daemon=True)
        viewers = Viewers(server.port, variant, session.id, 1)
        before = server.resident()
        viewers.add(count - 1)  # before the first update: thousands that come in later wait long
        server.cost()
        writer.start()
        viewers.read(1.0)
        cpu, resident, _ = server.cost()
        delivered = viewers.read(seconds)
        used, _, held = server.cost()
        viewers.close()
        ended.set()
        writer.join()
        session.finish()
    return Figures(
        cpu_us=(used - cpu) / max(1, delivered) * 1e6,
        memory_kb=(resident - before) / count,
        held_ms=held,
        rate_hz=delivered / count / seconds,
    )


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
        self._buffer = memoryview(bytearray(1 << 16))
        subscribe = {"event": "subscribe_session", "data": {"sessionId": session_id}}
        self._first = masked("40" if variant in NEEDS else json.dumps(subscribe))
        self._where = port, SOCKET_IO if variant in NEEDS else STREAM, token
        self.add(count)

    def add(self, count: int) -> None:
        """So many more."""
        for begin in range(0, count, AT_ONCE):
            some = [asked(*self._where) for _ in range(min(AT_ONCE, count - begin))]
            for client in some:
                told = upgraded(client)
                client.sendall(self._first)
                client.setblocking(False)
                self._ready.register(client, selectors.EVENT_READ)
                self._left[client.fileno()] = (0, b"")
                self._count(client.fileno(), told)

    def read(self, seconds: float) -> int:
        """Read for so long; how many frames arrived."""
        frames = 0
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in self._ready.select(left):
                client: Any = key.fileobj
                try:
                    size = client.recv_into(self._buffer)
                except BlockingIOError:
                    continue
                if not size:
                    raise RuntimeError("the server closed a viewer's socket")
                frames += self._count(key.fd, self._buffer[:size])
        return frames

    def _count(self, fd: int, data: bytes | memoryview) -> int:
        skip, head = self._left[fd]
        if head:
            data = head + data
        at, size, frames = skip, len(data), 0
        while size - at >= 2:
            length = data[at + 1]
            start = at + 2 + {126: 2, 127: 8}.get(length, 0)
            if start > size:
                break
            at = start + (length if length < 126 else int.from_bytes(data[at + 2 : start], "big"))
            frames += 1
        self._left[fd] = (max(0, at - size), bytes(data[at:]))
        return frames

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


def upgraded(client: socket.socket) -> bytes:
    """Wait until the server has agreed; what it has told already. Raises RuntimeError where it
    does not agree."""
    reply = b""
    while b"\r\n\r\n" not in reply:
        more = client.recv(4096)
        if not more or len(reply) > 8192:
            raise RuntimeError(f"no upgrade: {reply!r}")
        reply += more
    head, _, told = reply.partition(b"\r\n\r\n")
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(f"no upgrade: {head!r}")
    return told


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
        stalled = asked(server.port, STREAM)
        upgraded(stalled)
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
    before = server.resident()
    for _ in range(updates // 400):
        for _ in range(400):
            session.log(loss=1.0)
        reader.read(0.01)
    reader.read(0.5)
    return float(server.resident() - before)
