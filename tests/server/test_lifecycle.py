"""What the server around us sees of a run: events, activity, counters; and retention."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from forge_notebook.recording import Session
from forge_notebook.server.hub import Hub
from forge_notebook.server.lifecycle import EVENT_ID, Lifecycle
from tests.server.test_turns import until

Fetch = Callable[..., Awaitable[Any]]


@pytest.fixture
def ended(store: Path) -> Session:
    session = Session("old")
    session.finish()
    return session


async def started(serverapp: Any) -> Any:
    """The extension, started as a server does after its loop runs (the test fixture does not)."""
    manager = serverapp.extension_manager
    (app,) = manager.extension_apps["forge_notebook"]
    if hasattr(manager, "start_extension"):
        await manager.start_extension("forge_notebook")
    while not hasattr(app, "_lifecycle"):  # jupyter_server 2.15: by itself
        await asyncio.sleep(0.01)
    return app


@pytest.fixture
def extension(jp_serverapp: Any, jp_asyncio_loop: asyncio.AbstractEventLoop) -> Any:
    return jp_asyncio_loop.run_until_complete(started(jp_serverapp))


async def test_each_status_is_one_jupyter_event_and_metrics_are_none(
    jp_serverapp: Any, ended: Session, extension: Any
) -> None:
    told: list[tuple[str, str]] = []

    async def listen(logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        told.append((data["session_id"], data["status"]))

    jp_serverapp.event_logger.add_listener(schema_id=EVENT_ID, listener=listen)
    session = Session("run")
    look = extension._lifecycle.look
    await look()
    for step in range(5):
        session.log(step, loss=1.0)
        await look()
    session.finish("failed", error="no luck")
    await look()
    await look()
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert told == [(session.id, "created"), (session.id, "running"), (session.id, "failed")]


async def test_a_live_run_keeps_the_server_active_and_an_ended_one_does_not(
    jp_serverapp: Any, extension: Any
) -> None:
    times = jp_serverapp.web_app.settings.setdefault("last_activity_times", {})
    await extension._lifecycle.look()
    assert "forge_notebook" not in times
    session = Session("run")
    await extension._lifecycle.look()
    assert datetime.now(timezone.utc) - times["forge_notebook"] < timedelta(seconds=5)
    assert jp_serverapp.web_app.last_activity() >= times["forge_notebook"]
    session.finish()
    before = times["forge_notebook"]
    await asyncio.sleep(0.01)
    await extension._lifecycle.look()
    assert times["forge_notebook"] == before


async def test_polling_does_not_count_as_activity(jp_fetch: Fetch, jp_serverapp: Any) -> None:
    session = Session("run")
    before = jp_serverapp.web_app.settings.get("api_last_activity")
    await jp_fetch("api", "training", "poll", session.id)
    assert jp_serverapp.web_app.settings.get("api_last_activity") == before


async def test_counters_are_on_jupyters_metrics(jp_fetch: Fetch, extension: Any) -> None:
    session = Session("run")
    await extension._lifecycle.look()
    body = (await jp_fetch("metrics")).body.decode()
    assert "forge_notebook_live_sessions 1.0" in body
    assert "forge_notebook_messages_total" in body
    session.finish()


def aged(name: str, days: float) -> Session:
    session = Session(name)
    then = time.time() - days * 86_400
    os.utime(session.folder / "run.log", (then, then))
    return session


@pytest.mark.parametrize(("days", "dry_run"), [(0.0, False), (10.0, True), (10.0, False)])
async def test_retention_is_off_by_default_dry_first_and_never_touches_a_live_run(
    store: Path, caplog: pytest.LogCaptureFixture, days: float, dry_run: bool
) -> None:
    caplog.set_level(logging.INFO)
    live, recent, old = aged("live", 99), Session("recent"), Session("old")
    recent.finish()
    old.finish()
    os.utime(old.folder / "run.log", (0, 0))
    hub = Hub(store)
    lifecycle = Lifecycle(
        hub, emit=lambda data: None, active=lambda: None, retain_days=days, dry_run=dry_run
    )
    await lifecycle.look()
    assert live.folder.exists()
    assert recent.folder.exists()
    assert old.folder.exists() is (days == 0 or dry_run)
    assert (f"would delete session {old.id}" in caplog.text) is (days > 0 and dry_run)
    await hub.stop()


async def test_the_defaults_keep_everything(extension: Any) -> None:
    assert (extension.retain_days, extension.retain_dry_run) == (0.0, True)
    for name in ("store", "max_update_hz", "max_viewers", "max_requests_hz", "retain_days",
                 "max_http_hz", "max_client_viewers", "ingest_tokens"):  # fmt: skip
        assert extension.traits(config=True)[name].help


async def test_stopping_ends_every_task_and_releases_who_waits(
    jp_fetch: Fetch, jp_serverapp: Any, extension: Any
) -> None:
    session = Session("run")
    reply = await jp_fetch("api", "training", "poll", session.id)
    params = {"after": str(json.loads(reply.body)["data"]["seq"]), "wait": "20"}
    poll = jp_fetch("api", "training", "poll", session.id, params=params)
    waiting = asyncio.ensure_future(poll)
    feed = jp_serverapp.web_app.settings["forge_hub"]._feeds[session.id]
    await until(lambda: bool(feed.waiters))
    assert not waiting.done()
    await extension.stop_extension()
    assert (await asyncio.wait_for(waiting, 2)).code == 200
    running = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]  # type: ignore[union-attr]
    assert not [name for name in running if name.startswith(("Hub.", "Pulse.", "Lifecycle."))]
