"""The WebSocket: SPEC's events on a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from forge_notebook.recording import Session

Connect = Callable[..., Awaitable[Any]]


class Client:
    """Speaks the contract; applies updates as a viewer would."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.cursor = 0
        self.losses: list[float] = []
        self.events: list[str] = []

    def send(self, event: str, **data: Any) -> None:
        self.socket.write_message(json.dumps({"event": event, "data": data}))

    async def next(self) -> tuple[str, dict[str, Any]]:
        message = json.loads(await asyncio.wait_for(self.socket.read_message(), 10))
        return message["event"], message["data"]

    async def until(self, wanted: str) -> dict[str, Any]:
        while True:
            event, data = await self.next()
            self.events.append(event)
            if "fromSeq" in data:
                assert data["fromSeq"] <= self.cursor < data["seq"]
                self.cursor = data["seq"]
                for block in data.get("series", []):
                    if "loss" in block["columns"]:
                        self.losses += block["values"][block["columns"].index("loss")]
            if event == wanted:
                return data


@pytest.fixture
def connect(jp_ws_fetch: Connect) -> Connect:
    async def open_client() -> Client:
        return Client(await jp_ws_fetch("api", "training", "stream"))

    return open_client


async def test_subscribe_then_live_then_completed(connect: Connect, jp_serverapp: object) -> None:
    session = Session("run", total_steps=6)
    session.log(1, loss=6.0)
    client = await connect()
    client.send("subscribe_session", sessionId=session.id)
    assert (await client.until("session_status"))["status"] == "running"
    await client.until("progress_update")
    assert client.losses == [6.0]
    for step in range(2, 7):
        session.log(step, loss=7.0 - step)
    session.model_completed(0)
    session.finish()
    last = await client.until("training_completed")
    assert client.losses == [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    assert last["metrics"]["overallProgress"] == 100
    assert last["status"] == "completed"
    assert [e for e in client.events if e.startswith(("model", "training"))] == [
        "model_completed",
        "training_completed",
    ]


async def test_resume_by_cursor_has_every_point_once(
    connect: Connect, jp_serverapp: object
) -> None:
    session = Session("run")
    first = await connect()
    first.send("subscribe_session", sessionId=session.id)
    await first.until("session_status")
    for step in range(50):
        session.log(step, loss=float(step))
    while len(first.losses) < 50:
        await first.until("progress_update")
    cursor = first.cursor
    first.socket.close()
    for step in range(50, 90):
        session.log(step, loss=float(step))
    session.event("checkpoint_saved", path="p")
    for step in range(90, 100):
        session.log(step, loss=float(step))
    second = await connect()
    second.cursor = cursor
    second.send("subscribe_session", sessionId=session.id, after=cursor)
    while len(second.losses) < 50:
        await second.until("progress_update")
    assert first.losses + second.losses == [float(i) for i in range(100)]
    assert "checkpoint_saved" in second.events


async def test_unsubscribed_means_silent(connect: Connect, jp_serverapp: object) -> None:
    session = Session("run")
    session.log(1, loss=1.0)
    client = await connect()
    client.send("subscribe_session", sessionId=session.id)
    await client.until("progress_update")
    client.send("unsubscribe_session", sessionId=session.id)
    client.send("get_session_history", sessionId=session.id, limit=5)
    await client.until("session_history")
    session.log(2, loss=2.0)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.next(), 0.4)


async def test_history_by_socket_is_specs_rows(connect: Connect, jp_serverapp: object) -> None:
    session = Session("run")
    for step in range(1, 6):
        session.log(step, loss=1.0 / step)
    client = await connect()
    client.send("get_session_history", sessionId=session.id, limit=2)
    data = await client.until("session_history")
    assert [row["currentStep"] for row in data["history"]] == [4, 5]


async def test_the_list_tells_of_new_changed_and_deleted(
    connect: Connect, jp_serverapp: object, jp_fetch: Connect
) -> None:
    session = Session("first")
    client = await connect()
    client.send("subscribe_session", sessionId="*")
    assert (await client.until("session_status"))["sessionId"] == session.id
    session.finish()
    assert (await client.until("session_status"))["status"] == "completed"
    await jp_fetch("api", "training", "sessions", session.id, method="DELETE")
    gone = await client.until("session_status")
    assert gone == {"sessionId": session.id, "status": "deleted"}


async def test_a_killed_writer_shows_as_interrupted(connect: Connect, jp_serverapp: object) -> None:
    session = Session("killed")
    session.log(1, loss=1.0)
    client = await connect()
    client.send("subscribe_session", sessionId=session.id)
    await client.until("progress_update")
    session._writer.abandon()  # what the kernel does with the lock of a killed process
    assert (await client.until("session_status"))["status"] == "interrupted"


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("not json", "not JSON"),
        ("[1]", "event"),
        ('{"event": "jump", "data": {}}', "unknown event"),
        ('{"event": "subscribe_session"}', "data"),
        ('{"event": "subscribe_session", "data": {}}', "sessionId"),
        ('{"event": "subscribe_session", "data": {"sessionId": "nobody"}}', "no session"),
        ('{"event": "subscribe_session", "data": {"sessionId": "../etc"}}', "session id"),
        ('{"event": "subscribe_session", "data": {"sessionId": "a", "after": -1}}', "after"),
        ('{"event": "get_session_history", "data": {"sessionId": "a", "limit": 1.5}}', "limit"),
        ("x" * 70_000, "70000 bytes"),
        ("[" * 30_000, "not JSON"),
    ],
)
async def test_bad_messages_are_answered_and_the_socket_stays_open(
    connect: Connect, jp_serverapp: object, message: str, says: str
) -> None:
    client = await connect()
    client.socket.write_message(message)
    event, data = await client.next()
    assert event == "error"
    assert says in data["message"]
    session = Session("still there")
    client.send("subscribe_session", sessionId=session.id)
    assert (await client.until("session_status"))["sessionId"] == session.id
