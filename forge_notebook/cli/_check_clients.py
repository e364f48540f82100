"""The clients of ``forge-notebook check``: one for each transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from forge_notebook.cli._jupyter import Endpoint

CLIENT_S = 30.0
SEPARATOR = "\x1e"  # between the packets of a Socket.IO polling body

Rows = list[tuple[int, int, float | None, float | None]]  # seq, step, loss, lr


class Client:
    """One viewer by one transport, which keeps all that it is told."""

    def __init__(
        self,
        name: str,
        follow: Callable[[Client], Awaitable[None]],
        server: Endpoint,
        session: str,
        models: int,
    ) -> None:
        self.name = name
        self.server = server
        self.session = session
        self.ready = asyncio.Event()
        self.done = False
        self.error: str | None = None
        self._models = models
        self._follow = follow
        self._cursor = 0
        self._rows: Rows = []
        self._events: list[str] = []
        self._overall: float | None = None

    @property
    def request(self) -> dict[str, str]:
        """What subscribes."""
        return {"sessionId": self.session}

    async def run(self) -> None:
        """Follow to the end of the training."""
        try:
            await asyncio.wait_for(self._follow(self), CLIENT_S)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
        self.ready.set()

    def take(self, event: str, data: dict[str, Any]) -> None:
        """Keep one message."""
        self.ready.set()
        if "fromSeq" not in data or data["seq"] <= self._cursor:
            return
        if data["fromSeq"] > self._cursor:
            raise RuntimeError(f"a gap: {self._cursor} to {data['fromSeq']}")
        self._cursor = data["seq"]
        for block in data.get("series", []):
            columns = [block["values"][block["columns"].index(name)] for name in ("loss", "lr")]
            self._rows += zip(block["seq"], block["step"], *columns, strict=True)
        if event != "progress_update":
            self._events.append(event)
        if event == "training_completed":
            self._overall = data["metrics"]["overallProgress"]
            self.done = True

    def verdict(self, logged: Rows) -> str | None:
        """What is wrong with what was told; None where nothing is."""
        if self.error is not None:
            return self.error
        if self._rows != logged:
            return f"{len(self._rows)} rows told, {len(logged)} in the log, not the same"
        expected = ["training_started", *["model_started", "model_completed"] * self._models]
        if self._events != [*expected, "training_completed"]:
            return f"events {self._events}"
        return None if self._overall == 100 else f"ended at {self._overall} %"


async def _stream(client: Client) -> None:
    socket = await _dial(client, "stream")
    await socket.write_message(json.dumps({"event": "subscribe_session", "data": client.request}))
    while not client.done:
        message = json.loads(await socket.read_message())
        client.take(message["event"], message["data"])
    socket.close()


async def _poll(client: Client) -> None:
    query = ""
    while not client.done:
        reply = json.loads(await _get(client, f"poll/{client.session}{query}"))["data"]
        for message in reply["messages"]:
            client.take(message["event"], message["data"])
        query = f"?after={reply['seq']}&wait=5"


async def _socketio(client: Client) -> None:
    socket = await _dial(client, "socket.io/?EIO=4&transport=websocket")
    await socket.write_message("40")
    await socket.write_message("42" + json.dumps(["subscribe_session", client.request]))
    while not client.done:
        packet = await socket.read_message()
        if packet == "2":
            await socket.write_message("3")
        elif packet.startswith("42"):
            client.take(*json.loads(packet[2:]))
    socket.close()


async def _socketio_polling(client: Client) -> None:
    path = "socket.io/?EIO=4&transport=polling"
    sid = json.loads((await _get(client, path))[1:])["sid"]
    path += f"&sid={sid}"
    event = "42" + json.dumps(["subscribe_session", client.request])
    await _get(client, path, f"40{SEPARATOR}{event}")
    while not client.done:
        for packet in (await _get(client, path)).split(SEPARATOR):
            if packet.startswith("42"):
                client.take(*json.loads(packet[2:]))


TRANSPORTS = {
    "WebSocket": _stream,
    "long poll": _poll,
    "Socket.IO, WebSocket": _socketio,
    "Socket.IO, polling": _socketio_polling,
}


def headers(server: Endpoint) -> Any:
    """The token."""
    from tornado.httputil import HTTPHeaders

    return HTTPHeaders({"Authorization": f"token {server.token}"})


async def _dial(client: Client, path: str) -> Any:
    from tornado.httpclient import HTTPRequest
    from tornado.websocket import websocket_connect

    url = f"{client.server.url.replace('http', 'ws', 1)}api/training/{path}"
    return await websocket_connect(HTTPRequest(url, headers=headers(client.server)))


async def _get(client: Client, path: str, body: str | None = None) -> str:
    from tornado.httpclient import AsyncHTTPClient

    reply = await AsyncHTTPClient(force_instance=True).fetch(
        f"{client.server.url}api/training/{path}",
        method="GET" if body is None else "POST",
        headers=headers(client.server),
        body=body,
        request_timeout=60,
    )
    return str(reply.body.decode())
