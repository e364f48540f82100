"""The contract's files hold: against the routes, the golden messages, and live answers."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from tornado.httpclient import HTTPClientError

import forge_notebook
from forge_notebook.recording import Session
from forge_notebook.server.contract import EVENTS, OPENAPI
from forge_notebook.server.conversation import Conversation, Limits
from forge_notebook.server.hub import Hub
from forge_notebook.server.routes import API
from forge_notebook.server.viewer import Batch

Fetch = Callable[..., Awaitable[Any]]
SPEC = yaml.safe_load(OPENAPI.read_text())
SCHEMA = json.loads(EVENTS.read_text())
GOLDEN = Path(__file__).parent.parent / "fixtures" / "wire" / "messages.json"
ERRORS = GOLDEN.with_name("errors.json")
REGISTRY: Any = Registry().with_resources(
    [
        ("events.schema.json", Resource.from_contents(SCHEMA)),
        ("spec", DRAFT202012.create_resource(SPEC)),
    ]
)


def validator(name: str) -> Any:
    reference = {"$ref": f"spec#/components/schemas/{name}"}
    return jsonschema.Draft202012Validator(reference, registry=REGISTRY)


MESSAGE = jsonschema.Draft202012Validator(SCHEMA)


def test_the_files_describe_exactly_the_registered_routes() -> None:
    def described_as(path: str) -> str:
        parameter = "{tokenId}" if path.startswith("tokens/") else "{sessionId}"
        return "/" + path.replace("([^/]+)", parameter).replace("\\", "")

    registered = {
        (described_as(path), verb)
        for path, handler in API
        for verb in ("get", "post", "put", "delete", "patch")
        if verb in {name for kind in handler.__mro__ if kind.__module__.startswith("forge_notebook")
                    for name in vars(kind)}
    }  # fmt: skip
    described = {
        (path, verb)
        for path, item in SPEC["paths"].items()
        for verb in item
        if verb != "parameters"
    }
    assert described == registered
    assert SPEC["info"]["version"] == forge_notebook.__version__
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_golden_messages_are_valid_and_damaged_ones_are_not() -> None:
    golden = json.loads(GOLDEN.read_text())
    messages = golden if isinstance(golden, list) else golden["messages"]
    for message in messages:
        MESSAGE.validate(message)
        for key in ("sessionId", "seq"):
            broken = {**message, "data": {k: v for k, v in message["data"].items() if k != key}}
            assert not MESSAGE.is_valid(broken), (message["event"], key)
    assert not MESSAGE.is_valid({"event": "error", "data": {"message": "without a code"}})


class Listening:
    """A viewer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def send(self, batch: Batch) -> int:
        self.told += [{"event": event, "data": data} for event, data in batch.messages]
        return 0

    def backlog(self) -> int:
        return 0


async def test_answers_to_wrong_requests_are_the_golden_errors(store: Path) -> None:
    viewer, hub = Listening(), Hub(store)
    conversation = Conversation(hub, viewer, Limits())
    for event, data in [
        ("subscribe_session", {"sessionId": "nobody"}),
        ("subscribe_session", {"sessionId": "../<b>"}),
        ("subscribe_session", {"sessionId": "nobody", "after": -1}),
        ("get_session_history", {}),
        ("launch", {"sessionId": "nobody"}),
    ]:
        await conversation.take(event, data)
    await hub.stop()
    if os.environ.get("FORGE_UPDATE_GOLDEN"):
        ERRORS.write_text(json.dumps(viewer.told, indent=1) + "\n")
    assert viewer.told == json.loads(ERRORS.read_text())
    for message in viewer.told:
        MESSAGE.validate(message)


@pytest.mark.parametrize("what", ["openapi.yml", "events.schema.json"])
async def test_the_files_are_served(jp_fetch: Fetch, what: str) -> None:
    reply = await jp_fetch("api", "training", what)
    file = OPENAPI if what == "openapi.yml" else EVENTS
    assert reply.body.decode() == file.read_text()


@pytest.mark.parametrize(
    ("name", "path", "params"),
    [
        ("SessionStatus", "status/{id}", {}),
        ("Metrics", "metrics/{id}", {}),
        ("History", "history/{id}", {}),
        ("Sessions", "sessions", {}),
        ("Series", "series/{id}", {"points": "10"}),
        ("Poll", "poll/{id}", {}),
        ("Poll", "poll/{id}", {"after": "1"}),
        ("Health", "health", {}),
    ],
)
async def test_live_answers_are_what_the_files_say(
    jp_fetch: Fetch, jp_serverapp: object, name: str, path: str, params: dict[str, str]
) -> None:
    session = Session("run", total_steps=100, models=2, config={"a": float("nan")})
    for step in range(1, 50):
        session.log(step, loss=2.0 / step, lr=float("inf"))
    session.event("checkpoint_saved", path="p")
    session.model_completed(0)
    reply = await jp_fetch("api", "training", *path.format(id=session.id).split("/"), params=params)
    validator(name).validate(json.loads(reply.body))


async def test_refusals_are_what_the_files_say(jp_fetch: Fetch, jp_serverapp: object) -> None:
    session = Session("run")
    codes = {}
    for path, options in {
        "status/nobody": {},
        "status/.bad": {},
        f"history/{session.id}?limit=x": {},
        f"sessions/{session.id}": {"method": "DELETE"},
        f"series/{session.id}?metrics=no": {},
        "jump": {},
    }.items():
        base, _, query = path.partition("?")
        params = dict(part.split("=") for part in query.split("&") if part)
        with pytest.raises(HTTPClientError) as error:
            await jp_fetch("api", "training", *base.split("/"), params=params, **options)
        if path != "jump":
            assert error.value.response is not None
            body = json.loads(error.value.response.body)
            validator("Refusal").validate(body)
            codes[base.split("/")[1].replace(session.id, "id") + query[:5]] = body["code"]
    assert codes == {
        "nobody": "unknown_session",
        ".bad": "invalid_session_id",
        "idlimit": "invalid_parameter",
        "id": "session_busy",
        "idmetri": "unknown_metric",
    }


def test_the_wheel_holds_the_files() -> None:
    for file in (OPENAPI, EVENTS):
        assert file.is_relative_to(Path(forge_notebook.__file__).parent)
