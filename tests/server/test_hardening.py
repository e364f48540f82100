"""What a hostile or broken client can do, on the open listener: it has no login before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

from forge_notebook.recording import Session
from forge_notebook.server import listener, rate
from forge_notebook.server.conversation import Limits
from forge_notebook.server.hub import Hub
from tests.server.test_turns import until

Fetch = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def serving(
    store: Path, limits: Limits | None = None, http_hz: float = 100.0
) -> AsyncIterator[tuple[int, Hub]]:
    hub = Hub(store)
    server, port = listener.listen(listener.application(hub, [], limits, http_hz=http_hz), 0)
    try:
        yield port, hub
    finally:
        server.stop()
        await hub.stop()
        await server.close_all_connections()
        await asyncio.sleep(0.1)  # the clients of this loop see it, and close as well


async def ask(port: int, data: bytes, wait_s: float = 5.0) -> bytes:
    """Send bytes; all that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), wait_s)
    except ConnectionResetError:  # cut before we had sent everything
        return b""
    finally:
        writer.close()


async def healthy(port: int) -> bool:
    url = f"http://127.0.0.1:{port}/api/training/health"
    return (await AsyncHTTPClient(force_instance=True).fetch(url)).code == 200


@pytest.mark.parametrize(
    "head", [b"", b"GET /api/training/health HTTP/1.1\r\nHost: localhost\r\nX: "],
)  # fmt: skip
async def test_who_dribbles_headers_is_cut(
    store: Path, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(listener, "DRIBBLE_S", 0.3)
    async with serving(store) as (port, _):
        assert await ask(port, head, 3.0) == b""
        assert await healthy(port)


async def test_who_dribbles_a_body_is_cut(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "DRIBBLE_S", 0.3)
    async with serving(store) as (port, _):
        request = b"POST /socket.io/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx"
        await ask(port, request, 3.0)
        assert await healthy(port)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /socket.io/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /api/training/status/%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /api/training/status/..%2f..%2fetc HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: close\r\n\r\n",
    ],
)
async def test_odd_requests_are_refused_and_the_server_goes_on(
    store: Path, request_bytes: bytes
) -> None:
    async with serving(store) as (port, _):
        reply = await ask(port, request_bytes)
        assert not reply or reply.split(b" ")[1][:1] == b"4"
        assert await healthy(port)


@pytest.mark.parametrize("path", ["api/training/stream", "socket.io/?EIO=4&transport=websocket"])
async def test_an_oversized_frame_closes_that_socket_only(store: Path, path: str) -> None:
    async with serving(store) as (port, hub):
        url = f"ws://127.0.0.1:{port}/{path}"
        hostile, other = await websocket_connect(url), await websocket_connect(url)
        assert len(hub.pulse) == 2
        await hostile.write_message("x" * 1_000_000)
        while await asyncio.wait_for(hostile.read_message(), 5) is not None:
            pass
        assert hostile.close_code == 1009
        await until(lambda: len(hub.pulse) == 1)
        assert await healthy(port)
        hostile.close()
        other.close()


async def test_requests_above_the_rate_wait_and_are_all_answered(store: Path) -> None:
    session = Session("run")
    async with serving(store, Limits(requests_hz=10.0, burst=2)) as (port, _):
        client = await websocket_connect(f"ws://127.0.0.1:{port}/api/training/stream")
        request = {"event": "get_session_history", "data": {"sessionId": session.id}}
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(8):
            await client.write_message(json.dumps(request))
        for _ in range(8):
            assert json.loads(str(await client.read_message()))["event"] == "session_history"
        assert 0.5 < loop.time() - began < 5.0
        client.close()


async def test_http_requests_above_the_rate_are_told_when_to_come_back(store: Path) -> None:
    session = Session("run")
    async with serving(store, http_hz=2.0) as (port, _):
        url = f"http://127.0.0.1:{port}/api/training/status/{session.id}"
        http = AsyncHTTPClient(force_instance=True)
        loop = asyncio.get_running_loop()
        answered, began = 0, loop.time()
        while (refusal := await http.fetch(url, raise_error=False)).code == 200:
            answered += 1
        # Ten seconds' worth at once: a page that opens. A slow client is given more meanwhile.
        assert 20 <= answered <= 20 + 2.0 * (loop.time() - began)
        assert refusal.code == 429
        assert json.loads(refusal.body)["code"] == "too_many_requests"
        await asyncio.sleep(int(refusal.headers["Retry-After"]))
        assert (await http.fetch(url)).code == 200
        client = await websocket_connect(f"ws://127.0.0.1:{port}/api/training/stream")
        client.close()  # a socket is not a request: max_viewers is its limit


def test_each_client_has_its_own_rate_and_silent_ones_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate, "MANY", 5)
    rates = rate.Rates(1.0)
    assert [rates.ready("greedy", 0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert rates.ready("other", 0.0)
    for i in range(50):
        assert rates.ready(f"passer-by {i}", 0.5)
        assert not rates.ready("greedy", 0.0)  # the many others do not wash it out
    assert rates.ready("late", 20.0)
    assert len(rates._buckets) == 1
    assert rates.ready("greedy", 20.0)


async def test_subscriptions_above_the_limit_are_refused(store: Path) -> None:
    sessions = [Session(f"run {i}") for i in range(3)]
    async with serving(store, Limits(subscriptions=2)) as (port, _):
        client = await websocket_connect(f"ws://127.0.0.1:{port}/api/training/stream")
        told = []
        for session in sessions:
            request = {"event": "subscribe_session", "data": {"sessionId": session.id}}
            await client.write_message(json.dumps(request))
        while "error" not in told:
            told.append(json.loads(str(await client.read_message()))["event"])
        assert told.count("session_status") == 2
        client.close()


NASTY = "<img src=x onerror=alert(1)>\x00\x07\x1b[2J\x1e\u202eevil\ud7ff\U0001f600\r\n--"


@pytest.mark.parametrize("transport", ["poll", "socket.io"])
async def test_names_of_any_characters_arrive_as_text(store: Path, transport: str) -> None:
    session = Session(NASTY, config={NASTY: NASTY})
    metrics: dict[str, Any] = {NASTY: 1.0}
    session.log(1, **metrics)
    async with serving(store) as (port, _):
        root = f"http://127.0.0.1:{port}"
        http = AsyncHTTPClient(force_instance=True)
        if transport == "poll":
            reply = await http.fetch(f"{root}/api/training/poll/{session.id}")
            assert reply.headers["Content-Type"].startswith("application/json")
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            status, update = [m["data"] for m in json.loads(reply.body)["data"]["messages"]]
        else:
            url = f"{root}/socket.io/?EIO=4&transport=polling"
            sid = json.loads((await http.fetch(url)).body[1:])["sid"]
            event = json.dumps(["subscribe_session", {"sessionId": session.id}])
            await http.fetch(f"{url}&sid={sid}", method="POST", body=f"40\x1e42{event}")
            packets: list[str] = []
            while len(packets) < 3:
                reply = await http.fetch(f"{url}&sid={sid}")
                assert reply.headers["Content-Type"].startswith("text/plain")
                packets += reply.body.decode().split("\x1e")
            status, update = (json.loads(packet[2:])[1] for packet in packets[1:])
        assert status["name"] == NASTY
        assert status["config"] == {NASTY: NASTY}
        assert update["series"][0]["columns"] == [NASTY]


async def test_no_foreign_page_can_have_its_name_resolved_to_us(store: Path) -> None:
    async with serving(store) as (port, _):
        for host in (b"evil.example", b"evil.example:%d" % port, b"0.0.0.0"):
            reply = await ask(
                port, b"GET /api/training/sessions HTTP/1.1\r\nHost: " + host
                + b"\r\nConnection: close\r\n\r\n",
            )  # fmt: skip
            assert reply.startswith(b"HTTP/1.1 403"), host
        assert await healthy(port)
