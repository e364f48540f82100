"""What goes wrong with python-socketio mounted as documented: each fault as a test of ours.

1 no token needed on websocket; 2 any origin let in; 3 POST refused for want of an XSRF field that
no client sends; 4 a refused websocket left open in silence; 5 the same for an unknown sid; 6 a
client that never connects kept for ever; 7 deflate forced on; 8 memory without end for a client
that does not read.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.websocket import websocket_connect

from forge_notebook.recording import Session
from forge_notebook.server import engineio, sioclient
from forge_notebook.server.hub import Hub
from tests.server.test_auth import login

__all__ = ["login"]
Ask = Callable[..., Coroutine[Any, Any, HTTPResponse]]
Dial = Callable[..., Awaitable[Any]]
POLL = "EIO=4&transport=polling"


@pytest.fixture
def root(http_server: Any, http_server_port: Any, jp_base_url: str, jp_serverapp: Any) -> str:
    return f"http://localhost:{http_server_port[-1]}{jp_base_url}api/training/socket.io/"


@pytest.fixture
def token(jp_serverapp: Any) -> dict[str, str]:
    return {"Authorization": f"token {jp_serverapp.identity_provider.token}"}


@pytest.fixture
def ask(root: str) -> Ask:
    async def send(query: str, headers: dict[str, str], body: str | None = None) -> HTTPResponse:
        request = HTTPRequest(
            f"{root}?{query}", method="GET" if body is None else "POST",
            headers=HTTPHeaders(headers), body=body, request_timeout=10,
        )  # fmt: skip
        return await AsyncHTTPClient().fetch(request, raise_error=False)

    return send


@pytest.fixture
def socket(root: str) -> Iterator[Callable[..., Awaitable[Any]]]:
    clients = []

    async def dial(headers: dict[str, str], query: str = "") -> Any:
        url = f"{root.replace('http', 'ws', 1)}?EIO=4&transport=websocket{query}"
        clients.append(await websocket_connect(HTTPRequest(url, headers=HTTPHeaders(headers))))
        return clients[-1]

    yield dial
    for client in clients:
        client.close()


async def opened(ask: Ask, headers: dict[str, str]) -> str:
    reply = await ask(POLL, headers)
    assert reply.code == 200
    return str(json.loads(reply.body[1:])["sid"])


async def test_1_a_websocket_needs_a_credential(socket: Dial) -> None:
    for headers in ({}, {"Authorization": "token wrong"}):
        with pytest.raises(HTTPClientError, match="403"):
            await socket(headers)


async def test_2_a_foreign_origin_with_the_cookie_is_refused(
    socket: Dial, ask: Ask, login: Any
) -> None:
    cookie, _ = await login()
    headers = {"Cookie": cookie, "Origin": "https://evil.example"}
    with pytest.raises(HTTPClientError, match="403"):
        await socket(headers)
    assert (await ask(POLL, headers)).code == 403


async def test_3_a_post_with_the_cookie_works_without_an_xsrf_field_and_only_with_a_live_sid(
    ask: Ask, login: Any
) -> None:
    cookie, _ = await login()
    sid = await opened(ask, {"Cookie": cookie})
    assert (await ask(f"{POLL}&sid={sid}", {"Cookie": cookie}, "40")).body == b"ok"
    assert (await ask(f"{POLL}&sid=guessed", {"Cookie": cookie}, "40")).code == 403
    foreign = {"Cookie": cookie, "Origin": "https://evil.example"}
    assert (await ask(f"{POLL}&sid={sid}", foreign, "40")).code == 403


async def test_3b_a_sid_is_of_no_use_to_somebody_else(
    ask: Ask, login: Any, token: dict[str, str]
) -> None:
    cookie, _ = await login()
    sid = await opened(ask, {"Cookie": cookie})
    assert (await ask(f"{POLL}&sid={sid}", token)).code == 400
    assert (await ask(f"{POLL}&sid={sid}", {})).code == 403


async def test_4_and_5_what_is_refused_is_closed_not_left_open(
    root: str, socket: Dial, token: dict[str, str]
) -> None:
    with pytest.raises(HTTPClientError, match="400"):
        await socket(token, "&sid=unknown")
    with pytest.raises(HTTPClientError, match="400"):
        await websocket_connect(
            HTTPRequest(f"{root.replace('http', 'ws', 1)}?EIO=3&transport=websocket",
                        headers=HTTPHeaders(token)))  # fmt: skip


async def test_6_who_never_connects_is_let_go(
    socket: Dial,
    ask: Ask,
    token: dict[str, str],
    jp_serverapp: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sioclient, "CONNECT_TIMEOUT_S", 0.2)
    hub: Hub = jp_serverapp.web_app.settings["forge_hub"]
    hub.pulse._second = 0.05
    quiet = await socket(token)
    await opened(ask, token)
    assert (await quiet.read_message())[0] == "0"
    began = time.monotonic()
    while await asyncio.wait_for(quiet.read_message(), 5) is not None:
        quiet.write_message("3")  # it answers pings, and nothing else
    assert time.monotonic() - began < 3
    while hub.pulse and time.monotonic() - began < 3:
        await asyncio.sleep(0.02)
    assert len(hub.pulse) == 0


async def test_6b_who_does_not_answer_pings_is_let_go(
    socket: Dial, token: dict[str, str], jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    jp_serverapp.web_app.settings["forge_hub"].pulse._second = 0.05
    lively, dead = await socket(token), await socket(token)
    for client in (lively, dead):
        assert (await client.read_message())[0] == "0"
        client.write_message("40")
        assert (await client.read_message()).startswith("40")
    monkeypatch.setattr(engineio, "PING_INTERVAL_S", 0.2)
    monkeypatch.setattr(engineio, "PING_TIMEOUT_S", 1.0)  # the lively one may be held up as well
    pings = 0
    for _ in range(4):
        assert await asyncio.wait_for(lively.read_message(), 5) == "2"
        lively.write_message("3")
        pings += 1
    assert pings == 4
    while (packet := await asyncio.wait_for(dead.read_message(), 5)) is not None:
        assert packet == "2"


async def test_7_no_deflate_even_when_offered(root: str, token: dict[str, str]) -> None:
    url = f"{root.replace('http', 'ws', 1)}?EIO=4&transport=websocket"
    request = HTTPRequest(url, headers=HTTPHeaders(token))
    client = await websocket_connect(request, compression_options={})
    assert client.headers is not None
    assert "Sec-WebSocket-Extensions" not in client.headers
    client.close()


async def test_8_a_client_that_does_not_come_to_poll_costs_little_and_catches_up(
    ask: Ask, token: dict[str, str], jp_serverapp: Any
) -> None:
    hub: Hub = jp_serverapp.web_app.settings["forge_hub"]
    hub.rate_hz = 1000.0
    session = Session("run")
    sid = await opened(ask, token)
    subscribe = "42" + json.dumps(["subscribe_session", {"sessionId": session.id}])
    assert (await ask(f"{POLL}&sid={sid}", token, f"40\x1e{subscribe}")).body == b"ok"
    (viewer,) = hub._feeds[session.id].viewers
    most, total = 0, 12_000
    extra: dict[str, Any] = {f"m{i}": 1 / 3 for i in range(20)}
    for step in range(1, total + 1):
        session.log(step, loss=float(step), **extra)
        if step % 200 == 0:
            await asyncio.sleep(0.03)
            most = max(most, viewer.backlog())
    assert 100_000 < most < 1_000_000
    cursor = 0
    seen: list[float] = []
    while len(seen) < total:
        reply = await ask(f"{POLL}&sid={sid}", token)
        assert reply.code == 200
        for packet in reply.body.decode().split("\x1e"):
            if not packet.startswith("42"):
                continue
            _, data = json.loads(packet[2:])
            if "fromSeq" in data and data["seq"] > cursor:
                assert data["fromSeq"] <= cursor
                cursor = data["seq"]
                for block in data.get("series", []):
                    seen += block["values"][block["columns"].index("loss")]
    assert seen == [float(i) for i in range(1, total + 1)]


@pytest.mark.parametrize(
    "body",
    ["", "9", "4", "47", "42{}", "42[]", "42[1]", "4" + "[" * 5000, "4251-[]", "b4AAAA",
     "x" * 70_000,
     "\x1e".join(["3"] * 100), '42["subscribe_session"'],
)  # fmt: skip
async def test_malformed_packets_end_the_connection_and_nothing_else(
    ask: Ask, token: dict[str, str], body: str
) -> None:
    sid = await opened(ask, token)
    assert (await ask(f"{POLL}&sid={sid}", token, body)).code == 400
    assert (await ask(f"{POLL}&sid={sid}", token)).code == 400
    assert await opened(ask, token)


async def test_errors_come_as_events_and_as_acknowledgements(
    socket: Dial, token: dict[str, str]
) -> None:
    client = await socket(token)
    await client.read_message()
    client.write_message("40/admin,")
    assert (await client.read_message()).startswith("44/admin,")
    client.write_message("40")
    await client.read_message()
    client.write_message('427["subscribe_session",{"sessionId":"nobody"}]')
    event, data = json.loads((await client.read_message())[2:])
    assert (event, data["code"], data["sessionId"]) == ("error", "unknown_session", "nobody")
    answer = await client.read_message()
    assert answer.startswith("437[")
    assert json.loads(answer[3:])[0]["success"] is False
    client.write_message('42["jump",{}]')
    assert json.loads((await client.read_message())[2:])[1]["code"] == "bad_message"


async def test_two_polls_at_a_time_end_the_connection(ask: Ask, token: dict[str, str]) -> None:
    sid = await opened(ask, token)
    first = asyncio.create_task(ask(f"{POLL}&sid={sid}", token))
    await asyncio.sleep(0.2)
    assert (await ask(f"{POLL}&sid={sid}", token)).code == 400
    assert (await first).body == b"1"
