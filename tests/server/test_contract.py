"""The HTTP contract on real sessions: what a dashboard gets, and what it gets for bad input."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from forge_notebook.core.session import SessionState
from forge_notebook.core.wire import TrainingMetrics
from forge_notebook.recording import Session

Fetch = Callable[..., Awaitable[Any]]

SPEC_FIELDS = {
    "loss",
    "perplexity",
    "grokProgress",
    "modelParams",
    "currentStep",
    "totalSteps",
    "currentModel",
    "totalModels",
    "overallProgress",
    "trainingTime",
    "estimatedTimeRemaining",
    "timestamp",
}


@pytest.fixture
def api(jp_fetch: Fetch) -> Fetch:
    async def call(*parts: str, **options: Any) -> Any:
        reply = await jp_fetch("api", "training", *parts, **options)
        body = json.loads(reply.body)
        assert body["success"] is True
        return body["data"]

    return call


@pytest.fixture
def refusal(jp_fetch: Fetch) -> Fetch:
    async def call(*parts: str, **options: Any) -> tuple[int, str]:
        with pytest.raises(HTTPClientError) as error:
            await jp_fetch("api", "training", *parts, **options)
        assert error.value.response is not None
        body = json.loads(error.value.response.body)
        assert body["success"] is False
        return error.value.code, body["error"]

    return call


@pytest.fixture
def session(jp_serverapp: object) -> Session:
    session = Session("two models", total_steps=10, models=2, config={"lr": 0.1})
    session.model_started(0, name="first", params=123, total_steps=10)
    for step in range(1, 11):
        session.log(step, loss=2.0 / step, val_loss=2.5 / step)
    session.model_completed(0)
    return session


async def test_specs_three_gets(api: Fetch, session: Session) -> None:
    status = await api("status", session.id)
    assert status["status"] == "running"
    assert status["config"] == {"lr": 0.1}
    metrics = await api("metrics", session.id)
    assert metrics.keys() >= SPEC_FIELDS
    assert metrics["loss"] == 0.2
    assert metrics["perplexity"] == round(math.exp(0.2), 2)
    assert metrics["modelParams"] == 123
    assert metrics["overallProgress"] == 50.0
    assert metrics["grokProgress"] is None  # validated, but not by rank: nothing is invented
    history = await api("history", session.id, params={"limit": "3"})
    assert [row["currentStep"] for row in history] == [8, 9, 10]
    first = await api("history", session.id, params={"after": "0", "limit": "2"})
    assert [row["currentStep"] for row in first] == [1, 2]


async def test_the_metrics_of_a_session_are_computed_by_the_thread_that_reads_its_log(
    api: Fetch, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed, threads = SessionState.metrics, set()

    def told(state: SessionState) -> TrainingMetrics | None:
        threads.add(threading.current_thread().name)
        return computed(state)

    monkeypatch.setattr(SessionState, "metrics", told)
    await api("metrics", session.id)
    assert threads == {"forge-files_0"}


async def test_completion_is_exactly_100(api: Fetch, session: Session) -> None:
    session.log(9, model=1, loss=1.0)
    session.finish()
    metrics = await api("metrics", session.id)
    assert metrics["overallProgress"] == 100
    assert metrics["estimatedTimeRemaining"] == 0
    assert (await api("status", session.id))["status"] == "completed"


async def test_nothing_known_is_null_not_a_default(api: Fetch, jp_serverapp: object) -> None:
    session = Session("bare")
    assert await api("metrics", session.id) is None
    session.log(1, accuracy=0.5)
    metrics = await api("metrics", session.id)
    assert {k for k in SPEC_FIELDS if metrics[k] is None} == {
        "loss",
        "perplexity",
        "grokProgress",
        "modelParams",
        "totalSteps",
        "overallProgress",
        "estimatedTimeRemaining",
    }


async def test_nan_is_marked_and_valid_json(api: Fetch, jp_serverapp: object) -> None:
    session = Session("diverged")
    session.log(1, loss=1.0, lr=math.inf)
    session.log(2, loss=math.nan, lr=-math.inf)
    metrics = await api("metrics", session.id)
    assert metrics["loss"] is None
    assert metrics["grokProgress"] is None
    assert metrics["nonFinite"] == {"loss": "NaN", "lr": "-Infinity"}
    series = (await api("series", session.id))["series"]
    block = next(b for b in series if b["columns"] == ["loss"])
    assert block["values"] == [[1.0, None]]
    assert block["nonFinite"] == [[0, 1, "NaN"]]


async def test_poll_follows_without_gap_or_doubling(api: Fetch, session: Session) -> None:
    first = await api("poll", session.id)
    assert [m["event"] for m in first["messages"]] == ["session_status", "progress_update"]
    session.log(1, model=1, loss=7.0)
    session.event("checkpoint_saved", path="x")
    session.log(2, model=1, loss=6.0)
    after = first["seq"]
    seen: list[Any] = []
    while len(seen) < 3:
        reply = await api("poll", session.id, params={"after": str(after), "wait": "5"})
        for message in reply["messages"]:
            assert message["data"]["fromSeq"] <= after or message["data"]["fromSeq"] < reply["seq"]
            assert message["data"]["seq"] > after
            after = message["data"]["seq"]
            blocks = message["data"].get("series", [])
            seen += [v for b in blocks for v in b["values"][b["columns"].index("loss")]]
            seen += [message["event"]] if message["event"] == "checkpoint_saved" else []
    assert seen == [7.0, "checkpoint_saved", 6.0]
    silent = await api("poll", session.id, params={"after": str(after), "wait": "0.1"})
    assert silent["messages"] == []


async def test_sessions_are_listed_newest_first_and_deleted(
    api: Fetch, refusal: Fetch, session: Session
) -> None:
    time.sleep(0.01)  # starts are told in milliseconds
    later = Session("later")
    listed = await api("sessions")
    assert [s["sessionId"] for s in listed] == [later.id, session.id]
    assert await refusal("sessions", later.id, method="DELETE") == (
        409,
        f"session {later.id!r} is running; stop it before deleting it",
    )
    later.finish()
    assert [s["sessionId"] for s in await api("sessions", params={"status": "completed"})] == [
        later.id
    ]
    await api("sessions", later.id, method="DELETE")
    assert [s["sessionId"] for s in await api("sessions")] == [session.id]


@pytest.mark.parametrize("what", ["status", "metrics", "history", "series", "poll"])
async def test_unknown_session_is_404(refusal: Fetch, jp_serverapp: object, what: str) -> None:
    assert await refusal(what, "nobody") == (404, "no session 'nobody' in this store")


@pytest.mark.parametrize(
    ("path", "params", "says"),
    [
        ("history", {"limit": "0"}, "limit"),
        ("history", {"limit": "-1"}, "limit"),
        ("history", {"limit": "abc"}, "limit"),
        ("history", {"after": "-1"}, "after"),
        ("poll", {"after": "1e3"}, "after"),
        ("poll", {"after": "1", "wait": "soon"}, "wait"),
        ("series", {"points": "1"}, "points"),
        ("series", {"from": "nan"}, "from"),
        ("series", {"x": "banana"}, "banana"),
    ],
)
async def test_bad_parameters_are_400_and_named(
    refusal: Fetch, session: Session, path: str, params: dict[str, str], says: str
) -> None:
    code, message = await refusal(path, session.id, params=params)
    assert code == 400
    assert says in message


async def test_an_unknown_metric_is_404_and_says_which_there_are(
    refusal: Fetch, session: Session
) -> None:
    code, message = await refusal("series", session.id, params={"metrics": "los"})
    assert (code, "loss" in message) == (404, True)


async def test_a_verb_that_is_not_served_is_405_and_says_which_are(
    jp_fetch: Fetch, session: Session
) -> None:
    with pytest.raises(HTTPClientError) as error:
        await jp_fetch("api", "training", "status", session.id, method="DELETE")
    assert error.value.code == 405
    assert error.value.response is not None
    assert error.value.response.headers["Allow"] == "GET, OPTIONS"


@pytest.mark.parametrize("bad", ["..", "%2e%2e", "a.b", "a%2Fb", "x" * 101, "%00", "-x", "ü"])
async def test_ids_that_are_no_ids_are_refused(
    refusal: Fetch, jp_serverapp: object, bad: str
) -> None:
    from urllib.parse import quote

    code, _ = await refusal("status", quote(bad, safe="%."))
    assert code in (400, 404)


async def test_control_is_answered_by_the_loop(
    api: Fetch, refusal: Fetch, session: Session
) -> None:
    import asyncio

    async def loop() -> None:
        while not session.should_stop:
            await asyncio.sleep(0.01)

    task = asyncio.create_task(loop())
    answer = await api("control", session.id, method="POST", body='{"command": "stop"}')
    await task
    assert answer["ok"] is True
    assert answer["command"] == "stop"
    code, says = await refusal("control", session.id, method="POST", body='{"command": "jump"}')
    assert (code, "pause, resume" in says) == (400, True)
    code, says = await refusal(
        "control", session.id, method="POST", body='{"command": "pause"}', params={"wait": "0.1"}
    )
    assert (code, "not yet acknowledged" in says) == (504, True)
    session.finish("stopped")
    code, says = await refusal("control", session.id, method="POST", body='{"command": "stop"}')
    assert (code, "not running" in says) == (409, True)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        '{"args": 3}',
        "[" * 5000,
        '{"command": "pause", "args": []}',
        '{"command": "pause", "args": 0}',
    ],
)
async def test_malformed_bodies_are_400(refusal: Fetch, session: Session, body: str) -> None:
    code, _ = await refusal("control", session.id, method="POST", body=body)
    assert code == 400
