"""One frame for everybody, straight to the socket; and what a viewer that does not read costs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from forge_notebook.core import wire
from forge_notebook.recording import Session
from forge_notebook.server import frames
from forge_notebook.server.feed import CATCH_UP_RECORDS
from forge_notebook.server.hub import Hub
from forge_notebook.server.viewer import Batch
from tests.server.test_stream import Client
from tests.server.test_turns import until

Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def hub(jp_serverapp: Any) -> Hub:
    hub: Hub = jp_serverapp.web_app.settings["forge_hub"]
    hub.rate_hz = 1000.0
    return hub


@pytest.fixture
def connect(jp_ws_fetch: Connect) -> Connect:
    async def open_client() -> Client:
        return Client(await jp_ws_fetch("api", "training", "stream"))

    return open_client


class Raw:
    """A WebSocket client that reads when it is told to, and not before."""

    def __init__(self, port: int, path: str, token: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        key = base64.b64encode(os.urandom(16)).decode()
        self.request = (
            f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: token {token}\r\n\r\n"
        ).encode()
        self.data = b""

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.socket, self.request)
        while b"\r\n\r\n" not in self.data:
            self.data += await loop.sock_recv(self.socket, 4096)
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        assert b" 101 " in head

    async def send(self, event: str, **data: Any) -> None:
        text = json.dumps({"event": event, "data": data}).encode()
        assert len(text) < 126
        head = struct.pack("!BB", 0x81, 0x80 | len(text)) + bytes(4)
        await asyncio.get_running_loop().sock_sendall(self.socket, head + text)

    async def next(self) -> tuple[str, dict[str, Any]]:
        size = 2
        while True:
            if len(self.data) >= 2:
                short = self.data[1]
                extra = {126: 2, 127: 8}.get(short, 0)
                if len(self.data) >= 2 + extra:
                    length = int.from_bytes(self.data[2 : 2 + extra], "big") if extra else short
                    size = 2 + extra + length
                    if len(self.data) >= size:
                        text, self.data = self.data[2 + extra : size], self.data[size:]
                        message = json.loads(text)
                        return message["event"], message["data"]
            more = await asyncio.wait_for(
                asyncio.get_running_loop().sock_recv(self.socket, 1 << 16), 10
            )
            assert more, "the server closed the socket"
            self.data += more


@pytest.fixture
def raw(
    jp_serverapp: Any, http_server: Any, http_server_port: Any, jp_base_url: str
) -> Callable[[], Raw]:
    token = jp_serverapp.identity_provider.token
    return lambda: Raw(http_server_port[-1], f"{jp_base_url}api/training/stream", token)


@pytest.mark.parametrize("size", [1, 50, 200, 70_000])
async def test_frames_of_every_length_are_read_by_a_real_client(
    connect: Connect, hub: Hub, size: int
) -> None:
    session = Session("run", config={"text": "ü" * size})
    client = await connect()
    client.send("subscribe_session", sessionId=session.id)
    status = await client.until("session_status")
    assert status["config"]["text"] == "ü" * size


async def test_a_message_is_encoded_once_for_all_viewers(
    connect: Connect, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session("run")
    clients = [await connect() for _ in range(5)]
    for client in clients:
        client.send("subscribe_session", sessionId=session.id)
        await client.until("session_status")
        await client.until("progress_update") if client.cursor else None
    made: list[str] = []

    def counted(event: str, data: Any) -> str:
        made.append(event)
        return wire.encode(event, data)

    monkeypatch.setattr(frames, "encode", counted)
    session.event("checkpoint_saved", path="p")
    for client in clients:
        assert (await client.until("checkpoint_saved"))["path"] == "p"
    assert made.count("checkpoint_saved") == 1


async def test_a_stalled_viewer_costs_little_delays_nobody_and_catches_up(
    connect: Connect, hub: Hub, raw: Callable[[], Raw]
) -> None:
    session = Session("run", config={})
    reader, stalled = await connect(), raw()
    await stalled.open()
    for client in (reader, stalled):
        sending = client.send("subscribe_session", sessionId=session.id)
        await sending if sending is not None else None
    await reader.until("session_status")
    extra: dict[str, Any] = {f"metric_{i}": 1 / 3 for i in range(20)}
    most, slowest, total = 0, 0.0, 0
    loop = asyncio.get_running_loop()
    for _ in range(100):
        for _ in range(100):
            total += 1
            session.log(total, loss=float(total), **extra)
        began = loop.time()
        while len(reader.losses) < total:
            await reader.until("progress_update")
        slowest = max(slowest, loop.time() - began)
        feed = hub._feeds[session.id]
        most = max(most, *(viewer.backlog() for viewer in feed.viewers))
    assert most < 1_000_000
    assert most > 0, "the test did not fill the stalled viewer's socket"
    assert slowest < 2.0
    cursor = 0
    seen: list[float] = []
    while len(seen) < total:
        event, data = await stalled.next()
        if "fromSeq" in data and data["seq"] > cursor:
            assert data["fromSeq"] <= cursor
            cursor = data["seq"]
            for block in data.get("series", []):
                assert "decimated" not in block or cursor < 3
                seen += block["values"][block["columns"].index("loss")]
    assert seen == [float(i) for i in range(1, total + 1)]
    assert event == "progress_update"
    assert reader.losses == seen
    stalled.socket.close()


async def test_a_viewer_that_asks_without_reading_is_made_to_wait(
    hub: Hub, raw: Callable[[], Raw]
) -> None:
    session = Session("run", config={"text": "x" * 200_000})
    greedy = raw()
    await greedy.open()
    for _ in range(60):
        await greedy.send("subscribe_session", sessionId=session.id)
    await until(lambda: session.id in hub._feeds and bool(hub._feeds[session.id].viewers))
    (viewer,) = hub._feeds[session.id].viewers
    await until(lambda: viewer.backlog() > 0)
    await asyncio.sleep(1.0)
    assert 0 < viewer.backlog() < 1_000_000  # sixty answers would be twelve megabytes
    greedy.socket.close()


async def test_viewers_above_the_limit_are_refused(
    connect: Connect, hub: Hub, jp_fetch: Connect
) -> None:
    hub.crowd.most = 1
    await connect()
    with pytest.raises(Exception, match="503"):
        await connect()
    session = Session("run")
    with pytest.raises(Exception, match="503"):
        await jp_fetch("api", "training", "poll", session.id, params={"after": "1", "wait": "5"})


async def test_the_heartbeat_comes_and_a_dead_connection_is_let_go(
    hub: Hub, raw: Callable[[], Raw], connect: Connect
) -> None:
    hub.pulse._second = 0.005
    client = await connect()
    assert (await client.until("heartbeat"))["time"] > 1e9
    session = Session("run", config={"text": "x" * 3_000_000})
    dead = raw()
    await dead.open()
    await dead.send("subscribe_session", sessionId=session.id)
    deadline = asyncio.get_running_loop().time() + 10
    while len(hub.pulse) > 1 and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
    assert len(hub.pulse) == 1
    assert (await client.until("heartbeat"))["time"] > 1e9
    dead.socket.close()


async def test_a_stream_that_is_not_plain_is_written_through_tornado(
    connect: Connect, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "IOStream", object)  # as with TLS, whose streams are another type
    session = Session("run", total_steps=2)
    client = await connect()
    client.send("subscribe_session", sessionId=session.id)
    await client.until("session_status")
    (viewer,) = hub._feeds[session.id].viewers
    assert viewer._outlet._plain is False  # type: ignore[attr-defined]
    session.log(1, loss=2.0)
    session.log(2, loss=1.0)
    session.finish()
    await client.until("training_completed")
    assert client.losses == [2.0, 1.0]


async def test_a_socket_closed_before_anybody_noticed_takes_nothing_and_delays_nobody(
    connect: Connect, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session("run")
    clients = [await connect() for _ in range(3)]
    for client in clients:
        client.send("subscribe_session", sessionId=session.id)
        await client.until("session_status")
    viewers: list[Any] = hub._feeds[session.id].viewers
    viewers[1]._outlet._stream.close()  # ``on_close`` comes with a later turn of the loop
    assert viewers[1].backlog() == 0
    assert viewers[1].send(Batch([("alert", {})])) == 0
    session.log(1, loss=2.0)
    for client in (clients[0], clients[2]):
        while not client.losses:
            await client.until("progress_update")
    assert "a round failed" not in caplog.text
    for client in clients:
        client.socket.close()


async def test_a_viewer_that_comes_back_far_behind_is_told_in_parts(
    connect: Connect, hub: Hub, jp_fetch: Connect
) -> None:
    session = Session("behind")
    for step in range(1, 7001):
        session.log(step, loss=float(step))
    rows = [float(step) for step in range(1, 7001)]

    def losses(messages: list[dict[str, Any]]) -> list[float]:
        blocks = [block for data in messages for block in data.get("series", [])]
        return [value for block in blocks for value in block["values"][0]]

    client = await connect()
    client.send("subscribe_session", sessionId=session.id, after=1)
    told: list[float] = []
    while len(told) < len(rows):
        _, data = await client.next()
        part = losses([data])
        assert len(part) <= CATCH_UP_RECORDS
        told += part
    assert told == rows

    polled: list[float] = []
    after = 1
    while len(polled) < len(rows):
        url = ("api", "training", "poll", session.id)
        reply = await jp_fetch(*url, params={"after": after, "wait": 1})
        answer = json.loads(reply.body)["data"]
        part = losses([message["data"] for message in answer["messages"]])
        assert 0 < len(part) <= CATCH_UP_RECORDS
        polled += part
        after = answer["seq"]
    assert polled == rows
    session.finish()
