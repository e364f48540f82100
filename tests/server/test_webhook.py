"""News of trainings go to the configured address, whatever that address does."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from traitlets import TraitError

from forge_notebook.core.catalog import Catalog
from forge_notebook.recording import Session
from forge_notebook.server.app import ForgeNotebookApp
from forge_notebook.server.hub import Hub
from forge_notebook.server.lifecycle import Lifecycle
from forge_notebook.server.news import NewsDesk
from forge_notebook.server.webhook import WAITING, Webhook
from tests.server.test_lifecycle import started
from tests.server.test_turns import until

SECRET = "T0k3n-in-the-path"
QUICK = (0.02, 0.02)


class Receiver:
    """A real HTTP server; ``answers``: the status of each request, the last for all others."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.answers = [204]
        self.slow_s = 0.0
        self.location = ""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                # Chosen before the test can see the request, which may set other answers.
                answer = receiver.answers[min(len(receiver.got), len(receiver.answers) - 1)]
                receiver.got.append(json.loads(body))
                time.sleep(receiver.slow_s)
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Not on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/{SECRET}"

    async def wait(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while len(self.got) < count:
            assert time.monotonic() < deadline, self.got
            await asyncio.sleep(0.01)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def hub(store: Path) -> Hub:
    store.mkdir()
    return Hub(store)


def watcher(hub: Hub, webhook: Webhook) -> Lifecycle:
    return Lifecycle(hub, emit=lambda data: None, active=lambda: None, tell=webhook.tell)


def grok(session: Session) -> None:
    """Memorized first, then understood: the recorded shape that the onset is found in."""
    for step in range(1, 400):
        session.log(step, loss=0.1, rank_train=0.99, rank_val=0.02 if step < 200 else 0.9)


async def test_the_end_of_a_training_an_alert_and_the_onset_of_grokking_are_told_once(
    hub: Hub, receiver: Receiver
) -> None:
    before = Session("before")
    before.finish("failed", error="old")
    webhook = Webhook(receiver.url)
    lifecycle = watcher(hub, webhook)
    await lifecycle.look()
    run = Session("run", total_steps=400)
    run.log(1, loss=1.0)
    await lifecycle.look()
    run.log(2, loss=float("nan"))
    await lifecycle.look()
    grok(run)
    run.finish()
    await lifecycle.look()
    await lifecycle.look()
    await receiver.wait(3)
    await asyncio.sleep(0.1)
    told = [(n["event"], n["kind"], n["sessionId"]) for n in receiver.got]
    assert told == [
        ("alert", "non_finite", run.id),
        ("grokking_onset", "grokking", run.id),
        ("training_completed", None, run.id),
    ]
    assert receiver.got[0]["text"] == "run: alert: loss is NaN"
    assert receiver.got[2]["metrics"]["overallProgress"] == 100
    assert len({news["id"] for news in receiver.got}) == 3
    await webhook.stop()
    await hub.stop()


async def test_a_training_that_fails_between_two_looks_is_told(
    hub: Hub, receiver: Receiver
) -> None:
    webhook = Webhook(receiver.url)
    lifecycle = watcher(hub, webhook)
    await lifecycle.look()
    Session("quick").finish("failed", error="CUDA out of memory")
    await lifecycle.look()
    await receiver.wait(1)
    (news,) = receiver.got
    assert (news["event"], news["error"]) == ("training_failed", "CUDA out of memory")
    await webhook.stop()
    await hub.stop()


def test_a_process_that_is_gone_and_one_that_stalls_are_told_once(store: Path) -> None:
    session = Session("run")
    for step in range(20):
        session.log(step, loss=1.0)
        time.sleep(0.001)
    catalog = Catalog(store)
    state = catalog.state(session.id)
    desk = NewsDesk(since=state.start_time)
    assert desk.look(state, alive=True) == []
    state.watch.stall.limit_s = 0.01
    time.sleep(0.02)
    (stall,) = desk.look(state, alive=True)
    assert (stall["event"], stall["kind"]) == ("alert", "stall")
    assert desk.look(state, alive=True) == []
    (gone,) = desk.look(state, alive=False)
    assert (gone["event"], gone["status"]) == ("training_failed", "interrupted")
    assert desk.look(state, alive=False) == []
    session.finish()
    state = catalog.state(session.id)
    assert NewsDesk(since=time.time() + 60).look(state, alive=False) == []
    (end,) = desk.look(state, alive=False)
    assert end["event"] == "training_completed"


@pytest.mark.parametrize(
    ("answers", "tries"),
    [([500, 429, 204], 3), ([500], 3), ([400], 1), ([404], 1)],
)
async def test_what_may_pass_is_tried_again_and_the_rest_is_not(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, answers: list[int], tries: int
) -> None:
    receiver.answers = answers
    webhook = Webhook(receiver.url, retry_after_s=QUICK)
    webhook.tell({"text": "one"})
    await receiver.wait(tries)
    receiver.answers = [204]
    webhook.tell({"text": "two"})
    await receiver.wait(tries + 1)
    await asyncio.sleep(0.1)
    assert [n["text"] for n in receiver.got] == ["one"] * tries + ["two"]
    gave_up = answers[-1] != 204
    assert ("127.0.0.1 did not take news" in caplog.text) is gave_up
    await webhook.stop()


async def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    elsewhere = Receiver()
    receiver.answers, receiver.location = [307], elsewhere.url
    webhook = Webhook(receiver.url, retry_after_s=QUICK)
    webhook.tell({"text": "one"})
    await receiver.wait(1)
    await asyncio.sleep(0.2)
    elsewhere.close()
    assert elsewhere.got == []
    assert len(receiver.got) == 1
    await webhook.stop()


async def test_a_dead_or_slow_receiver_holds_nobody_up_and_its_secret_is_not_logged(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.socket() as taken:  # bound, not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        dead = Webhook(f"http://127.0.0.1:{taken.getsockname()[1]}/{SECRET}", retry_after_s=QUICK)
        receiver.slow_s = 1.0
        slow = Webhook(receiver.url, timeout_s=0.1, retry_after_s=QUICK)
        began = time.monotonic()
        for number in range(WAITING + 5):
            dead.tell({"text": str(number)})
            slow.tell({"text": str(number)})
        assert time.monotonic() - began < 0.5
        await receiver.wait(2)
        await until(lambda: "no answer in time" in caplog.text)
        await until(lambda: "ConnectionRefusedError" in caplog.text)
        await dead.stop()
        await slow.stop()
    assert "the oldest news is lost" in caplog.text
    assert "stops before all news" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", ["ftp://host/x", "host/x", "https://", f"http://[{SECRET}"])
def test_an_address_that_is_none_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(TraitError, match="http or https") as refusal:
        ForgeNotebookApp(webhook_url=url)
    assert SECRET not in str(refusal.value)


async def test_the_extension_tells_its_webhook(
    jp_configurable_serverapp: Any, jp_server_config: dict[str, Any], receiver: Receiver
) -> None:
    config = {**jp_server_config, "ForgeNotebookApp": {"webhook_url": receiver.url}}
    app = await started(jp_configurable_serverapp(config=config))
    await app._lifecycle.look()
    with Session("run") as session:
        session.log(1, loss=1.0)
    await app._lifecycle.look()
    await receiver.wait(1)
    assert receiver.got[0]["event"] == "training_completed"
