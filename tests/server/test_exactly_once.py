"""Every point once, whatever happened between: random faults on a real server.

The faults are drawn from a seed, which a failure prints.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError
from tornado.websocket import WebSocketClientConnection, websocket_connect

from forge_notebook.core.runlog import EVENT, POINTS, read_log
from forge_notebook.recording import Session

ROWS = 3000


class Server:
    """``forge-notebook serve``, which may be killed and started again on its port."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    async def start(self) -> None:
        command = [sys.executable, "-m", "forge_notebook.cli", "serve", "--port", str(self.port)]
        self.process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert await asyncio.wait_for(self.process.stdout.readline(), 30)

    async def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


class Client:
    """A viewer that keeps the cursor rule of the contract, over whatever transport there is."""

    def __init__(self, port: int, session_id: str, fate: random.Random) -> None:
        self.url = f"127.0.0.1:{port}/api/training"
        self.id = session_id
        self.fate = fate
        self.cursor = 0
        self.rows: list[tuple[int, float]] = []
        self.events: list[tuple[int, str]] = []
        self.resubscribed = 0
        self.done = False

    def apply(self, event: str, data: dict[str, Any]) -> bool:
        """Take a message; False where there is a gap, and the client must ask again."""
        if "fromSeq" not in data or data["seq"] <= self.cursor:
            return True
        if data["fromSeq"] > self.cursor:
            return False
        for block in data.get("series", []):
            assert "decimated" not in block
            losses = block["values"][block["columns"].index("loss")]
            new = zip(block["seq"], losses, strict=True)
            self.rows += [(seq, loss) for seq, loss in new if seq > self.cursor]
        if event != "progress_update":
            self.events.append((data["seq"], event))
        self.cursor = data["seq"]
        self.done = event == "training_completed"
        return True

    async def stream(self, seconds: float, rows: float = math.inf) -> None:
        """Follow by WebSocket for a while, or to so many rows; a slow reader now and then."""
        client = await websocket_connect(f"ws://{self.url}/stream")
        try:
            await self.subscribe(client)
            end = time.monotonic() + seconds
            slow = self.fate.random() < 0.3
            while not self.done and (left := end - time.monotonic()) > 0:
                if len(self.rows) >= rows:
                    return
                try:
                    text = await asyncio.wait_for(client.read_message(), left)
                except asyncio.TimeoutError:
                    return
                if text is None:
                    return
                message = json.loads(text)
                if not self.apply(message["event"], message["data"]):
                    self.resubscribed += 1
                    await self.subscribe(client)
                if slow:
                    await asyncio.sleep(0.05)
        finally:
            client.close()

    async def subscribe(self, client: WebSocketClientConnection) -> None:
        data = {"sessionId": self.id, "after": self.cursor}
        await client.write_message(json.dumps({"event": "subscribe_session", "data": data}))

    async def poll(self, seconds: float) -> None:
        """Follow by long poll for a while."""
        end = time.monotonic() + seconds
        while not self.done and time.monotonic() < end:
            url = f"http://{self.url}/poll/{self.id}?after={self.cursor}&wait=0.5"
            reply = json.loads((await AsyncHTTPClient().fetch(url)).body)["data"]
            for message in reply["messages"]:
                assert self.apply(message["event"], message["data"]), "a poll has no gaps"

    async def run(self, server: Server) -> None:
        """Until the end of the training, with one fault after another."""
        while not self.done:
            try:
                way = self.fate.choice([self.stream, self.stream, self.poll])
                await way(self.fate.uniform(0.05, 0.6))
            except (OSError, HTTPStreamClosedError, HTTPTimeoutError):
                pass  # the server is away
            fault = self.fate.random()
            if fault < 0.2:
                await server.stop(signal.SIGKILL)
                await server.start()
            elif fault < 0.5:
                await asyncio.sleep(self.fate.uniform(0.0, 0.5))  # asleep


def train(session: Session, fate: random.Random) -> None:
    session.start()
    for step in range(1, ROWS + 1):
        session.log(step, loss=float(step))
        if fate.random() < 0.01:
            session.event("checkpoint_saved", step=step, path="p")
        if fate.random() < 0.03:
            time.sleep(fate.uniform(0, 0.12))
    session.finish()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_point_and_event_once_and_in_order(store: Path, seed: int) -> None:
    server = Server()
    session = Session("faults")
    await server.start()
    trainer = threading.Thread(target=train, args=(session, random.Random(seed)))
    trainer.start()
    clients = [Client(server.port, session.id, random.Random(seed * 100 + i)) for i in range(2)]
    try:
        await asyncio.wait_for(clients[0].run(server), 200)
        await asyncio.wait_for(clients[1].stream(20), 30)  # comes when all is over
    finally:
        trainer.join()
        assert await server.stop(signal.SIGTERM) == 0
    records = read_log(session.folder / "run.log")
    written = [(r.seq, r.data.values[0]) for r in records if r.kind == POINTS]
    events = [(r.seq, r.data["event"]) for r in read_log(session.folder / "run.log")
              if r.kind == EVENT and r.data["event"] != "controls"]  # fmt: skip
    assert len(written) == ROWS
    for client in clients:
        assert client.rows == written
        # An alert is not in the log: it follows from a row, for every viewer from the same one.
        assert [event for event in client.events if event[1] != "alert"] == events
    alerts = [[event for event in client.events if event[1] == "alert"] for client in clients]
    assert alerts[0] == alerts[1]


async def test_a_server_killed_in_mid_run_loses_nothing_for_a_socket_that_comes_back(
    store: Path,
) -> None:
    server = Server()
    await server.start()
    session = Session("killed server")
    client = Client(server.port, session.id, random.Random(0))
    for step in range(100):
        session.log(step, loss=float(step))
    await client.stream(20, rows=100)
    assert len(client.rows) == 100
    await server.stop(signal.SIGKILL)
    for step in range(100, 200):
        session.log(step, loss=float(step))
    await server.start()
    session.finish()
    await client.stream(20)
    await server.stop(signal.SIGTERM)
    assert [loss for _, loss in client.rows] == [float(step) for step in range(200)]
    assert client.resubscribed == 0


async def test_from_websocket_to_polling_and_back_with_sleep_between_has_every_point_once(
    store: Path,
) -> None:
    server = Server()
    await server.start()
    session = Session("switched")
    client = Client(server.port, session.id, random.Random(0))
    try:
        for part, way in enumerate([client.stream, client.poll, client.stream, client.poll]):
            following = asyncio.create_task(way(1.0))
            for step in range(100):
                session.log(100 * part + step, loss=100.0 * part + step)
                await asyncio.sleep(0.005)
            await following
            while len(client.rows) <= 100 * part:  # a busy server is slow to answer
                await way(1.0)
            for _ in range(100):  # asleep: by nothing it hears of these
                session.log(loss=-1.0)
        session.finish()
        await client.stream(20)
    finally:
        await server.stop(signal.SIGTERM)
    rows = [r for r in read_log(session.folder / "run.log") if r.kind == POINTS]
    assert client.rows == [(r.seq, r.data.values[0]) for r in rows]
    assert len(client.rows) == 800
