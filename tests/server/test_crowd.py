"""One client holds only so many sockets; the others on the same address still come in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.websocket import WebSocketClientConnection, websocket_connect

from forge_notebook.core.tokens import TokenBook
from forge_notebook.recording import Session
from forge_notebook.server.crowd import Crowd, TooManyOfClient, TooManyViewers
from forge_notebook.server.hub import Hub
from tests.server.test_auth import login, token

__all__ = ["login"]  # a fixture

Headers = dict[str, str]
SIO = "api/training/socket.io/?EIO=4&transport="


class Door:
    """The extension as a client sees it."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def ask(self, path: str, headers: Headers) -> HTTPResponse:
        client = AsyncHTTPClient(force_instance=True)
        return await client.fetch(self.url + path, headers=headers, raise_error=False)

    async def dial(self, path: str, headers: Headers) -> WebSocketClientConnection:
        url = self.url.replace("http", "ws", 1) + path
        return await websocket_connect(HTTPRequest(url, headers=headers))


@pytest.fixture
def door(http_server: Any, http_server_port: Any, jp_base_url: str) -> Door:
    return Door(f"http://localhost:{http_server_port[-1]}{jp_base_url}")


@pytest.fixture
def hub(jp_serverapp: Any) -> Hub:
    hub: Hub = jp_serverapp.web_app.settings["forge_hub"]
    return hub


async def test_sockets_of_one_client_above_the_limit_are_refused_with_a_reason(
    jp_serverapp: Any, door: Door, hub: Hub, login: Callable[[], Awaitable[tuple[str, str]]]
) -> None:
    mine, session = token(jp_serverapp), Session("run")
    hub.crowd.most_of_client = 3
    stream = "api/training/stream"
    open_ones = [await door.dial(stream, mine), await door.dial(f"{SIO}websocket", mine)]
    assert (await door.ask(f"{SIO}polling", mine)).code == 200
    for path in (stream, f"{SIO}websocket"):
        with pytest.raises(HTTPClientError) as error:
            await door.dial(path, mine)
        assert error.value.code == 429
    refusal = await door.ask(f"{SIO}polling", mine)
    assert refusal.code == 429
    assert "this client has 3 sockets" in json.loads(refusal.body)["message"]
    refusal = await door.ask(f"api/training/poll/{session.id}?after=1&wait=5", mine)
    assert (refusal.code, json.loads(refusal.body)["code"]) == (429, "too_many_of_client")
    assert "this client has 3 sockets" in json.loads(refusal.body)["error"]
    assert (await door.ask(f"api/training/status/{session.id}", mine)).code == 200

    other = {"Cookie": (await login())[0]}
    open_ones.append(await door.dial(stream, other))
    open_ones.pop(0).close()
    while len(hub.crowd) > 3:
        await asyncio.sleep(0.01)
    open_ones.append(await door.dial(stream, mine))
    for client in open_ones:
        client.close()
    session.finish()


async def test_each_ingest_token_has_a_rate_of_its_own(
    jp_serverapp: Any, door: Door, hub: Hub
) -> None:
    jp_serverapp.web_app.settings["forge_rates"].hz = 0.1  # ten seconds' worth is one request
    book = TokenBook(hub.catalog.store)
    codes = []
    for headers in [{"Authorization": f"token {book.mint(name)[1]}"} for name in ("a", "b")]:
        for _ in range(2):
            url = f"{door.url}api/training/log/mine"
            request = HTTPRequest(url, method="PUT", headers=headers, body=b"")
            client = AsyncHTTPClient(force_instance=True)
            codes.append((await client.fetch(request, raise_error=False)).code)
    assert [code == 429 for code in codes] == [False, True, False, True]
    assert (await door.ask("api/training/health", token(jp_serverapp))).code == 200


async def test_a_hundred_tabs_and_a_crowd_of_users_behind_one_proxy_come_in(hub: Hub) -> None:
    for user in range(15):
        for _ in range(1000):
            hub.crowd.admit(f"10.0.0.1 user {user}")
            hub.crowd.enter(f"10.0.0.1 user {user}")
    with pytest.raises(TooManyOfClient):
        hub.crowd.admit("10.0.0.1 user 3")


def test_who_left_is_counted_no_more_and_costs_nothing() -> None:
    crowd = Crowd(2, 1)
    for client in ("a", "b"):
        crowd.admit(client)
        crowd.enter(client)
    with pytest.raises(TooManyViewers):
        crowd.admit("c")
    crowd.leave("a")
    crowd.admit("c")
    with pytest.raises(TooManyOfClient):
        crowd.admit("b")
    crowd.leave("b")
    assert len(crowd) == 0
    assert not crowd._here
