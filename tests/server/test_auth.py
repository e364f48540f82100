"""Who gets in: every route, every verb, every kind of credential, on a server that refuses
unauthenticated access."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from jupyter_server.auth.authorizer import Authorizer
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httputil import HTTPHeaders
from tornado.websocket import websocket_connect

from forge_notebook.core.tokens import TokenBook
from forge_notebook.recording import Session
from forge_notebook.server.conversation import EVENTS
from forge_notebook.server.routes import API

Call = Callable[..., Awaitable[int]]

ROUTES = [
    ("GET", "api/training/status/{id}"),
    ("GET", "api/training/metrics/{id}"),
    ("GET", "api/training/history/{id}"),
    ("GET", "api/training/sessions"),
    ("DELETE", "api/training/sessions/{id}"),
    ("GET", "api/training/series/{id}"),
    ("GET", "api/training/poll/{id}"),
    ("POST", "api/training/control/{id}"),
    ("PUT", "api/training/log/{id}"),
    ("GET", "api/training/tokens"),
    ("POST", "api/training/tokens"),
    ("DELETE", "api/training/tokens/{token}"),
    ("GET", "api/training/health"),
    ("GET", "api/training/openapi.yml"),
    ("GET", "api/training/events.schema.json"),
    ("WS", "api/training/stream"),
    ("WS", "api/training/socket.io/?EIO=4&transport=websocket"),
    ("GET", "api/training/socket.io/?EIO=4&transport=polling"),
    ("GET", "forge"),
    ("GET", "forge/static/dashboard.js"),
]
READS = [route for route in ROUTES if route[0] in ("GET", "WS")]
WRITES = [route for route in ROUTES if route[0] not in ("GET", "WS")]
# The page and its scripts hold nothing private: for those being logged in is enough.
PRIVATE = [route for route in ROUTES if route[1].startswith("api/")]


class ReadOnly(Authorizer):
    """Anybody may look, nobody may touch."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        assert resource in ("forge_notebook", "server", "contents")
        return action == "read"


class Nothing(Authorizer):
    """Nobody may do anything with our resource."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        return resource != "forge_notebook"


def test_every_route_is_in_the_table() -> None:
    paths = {
        path.replace("tokens/([^/]+)", "tokens/{token}")
        .replace("([^/]+)", "{id}")
        .replace("\\", "")
        for path, _ in API
    }
    listed = {path.partition("?")[0] for _, path in ROUTES}
    assert paths == {p.removeprefix("api/training/") for p in listed if p.startswith("api/")}


@pytest.fixture
def session(jp_serverapp: Any) -> Session:
    session = Session("s")
    session.log(1, loss=1.0)
    return session


@pytest.fixture
def ingest(session: Session) -> tuple[str, str]:
    """The id of an ingest token, and the token."""
    grant, text = TokenBook(session.folder.parent).mint("uplink")
    return grant.id, text


@pytest.fixture
def call(
    jp_serverapp: Any,
    jp_base_url: str,
    http_server: Any,
    http_server_port: Any,
    session: Session,
    ingest: tuple[str, str],
) -> Callable[..., Awaitable[int]]:
    root = f"http://localhost:{http_server_port[-1]}{jp_base_url}"

    async def send(verb: str, path: str, headers: dict[str, str], query: str = "") -> int:
        url = root + path.format(id=session.id, token=ingest[0])
        url += query.replace("?", "&") if "?" in url else query
        try:
            if verb == "WS":
                request = HTTPRequest(url.replace("http", "ws", 1), headers=HTTPHeaders(headers))
                (await websocket_connect(request)).close()
                return 101
            reply = await AsyncHTTPClient().fetch(
                HTTPRequest(
                    url,
                    method=verb,
                    headers=HTTPHeaders(headers),
                    body={"POST": '{"command": "pause"}', "PUT": ""}.get(verb),
                    follow_redirects=False,
                )
            )
            return int(reply.code)
        except HTTPClientError as error:
            return int(error.code)

    return send


def token(app: Any) -> dict[str, str]:
    return {"Authorization": f"token {app.identity_provider.token}"}


@pytest.fixture
def login(
    jp_serverapp: Any, jp_base_url: str, http_server: Any, http_server_port: Any
) -> Callable[[], Awaitable[tuple[str, str]]]:
    """Logs in as a browser does; the cookies, and the XSRF value that our page sends back."""

    async def go() -> tuple[str, str]:
        url = f"http://localhost:{http_server_port[-1]}{jp_base_url}forge"
        url += f"?token={jp_serverapp.identity_provider.token}"
        reply = await AsyncHTTPClient().fetch(url)
        set_cookies = reply.headers.get_list("Set-Cookie")
        jar = dict(part.split(";")[0].split("=", 1) for part in set_cookies)
        return "; ".join(f"{k}={v}" for k, v in jar.items()), jar["_xsrf"]

    return go


def table(routes: list[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("verb", "path"), routes, ids=[f"{verb} {path}" for verb, path in routes]
    )


@table(ROUTES)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "token wrong"}, {"Cookie": "username-localhost=forged"}],
    ids=["nothing", "bad token", "forged cookie"],
)
async def test_without_a_credential_nobody_gets_in(
    call: Call, verb: str, path: str, headers: dict[str, str]
) -> None:
    # The page sends a person to the login; the API refuses.
    assert await call(verb, path, headers) == (403 if path.startswith("api/") else 302)


@table(ROUTES)
async def test_a_token_gets_in_everywhere(
    call: Call, jp_serverapp: Any, session: Session, verb: str, path: str
) -> None:
    if verb in ("DELETE", "PUT"):
        session.finish()
    if verb == "POST" and "control" in path:
        assert await call(verb, path, token(jp_serverapp), "?wait=0") == 504  # nobody obeys here
    else:
        assert await call(verb, path, token(jp_serverapp)) in (200, 101)


@table(ROUTES)
async def test_a_cookie_gets_in_and_writes_only_with_xsrf(
    call: Call, login: Any, session: Session, verb: str, path: str
) -> None:
    session.finish() if verb in ("DELETE", "PUT") else None
    cookie, xsrf = await login()
    headers = {"Cookie": cookie}
    if (verb, path) in READS:
        assert await call(verb, path, headers) in (200, 101)
    else:
        assert await call(verb, path, headers, "?wait=0") == 403
        headers["X-XSRFToken"] = xsrf
        assert await call(verb, path, headers, "?wait=0") in (200, 504)


@table(PRIVATE)
async def test_a_cookie_from_a_foreign_page_is_refused(
    call: Call, login: Any, verb: str, path: str
) -> None:
    cookie, xsrf = await login()
    headers = {"Cookie": cookie, "Origin": "https://evil.example", "X-XSRFToken": xsrf}
    assert await call(verb, path, headers, "?wait=0") in (403, 404)


@table([route for route in ROUTES if route[0] != "WS"])  # its client sends the host it dials
async def test_a_foreign_host_header_is_refused(
    call: Call, jp_serverapp: Any, verb: str, path: str
) -> None:
    headers = {**token(jp_serverapp), "Host": "evil.example"}
    assert await call(verb, path, headers) == 403


@table([route for route in ROUTES if route[0] == "WS"])
async def test_a_foreign_host_header_opens_no_socket(
    jp_serverapp: Any, http_server: Any, http_server_port: Any, jp_base_url: str, verb: str,
    path: str,
) -> None:  # fmt: skip
    for host, code in (("localhost", b"101"), ("evil.example", b"403")):
        reader, writer = await asyncio.open_connection("127.0.0.1", http_server_port[-1])
        lines = [
            f"GET {jp_base_url}{path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            f"Authorization: {token(jp_serverapp)['Authorization']}", "", "",
        ]  # fmt: skip
        writer.write("\r\n".join(lines).encode())
        assert (await reader.readline()).split(b" ")[1] == code, host
        writer.close()


ASKED = {
    "subscribe_session": "session_status",
    "unsubscribe_session": None,
    "get_session_history": "session_history",
}
CREDENTIALS = ["token", "cookie", "nothing", "bad token", "foreign page", "read-only", "nobody"]


def test_every_event_is_in_the_table() -> None:
    assert set(ASKED) == set(EVENTS)


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("transport", ["stream", "websocket", "polling"])
@pytest.mark.parametrize("event", ASKED)
async def test_an_event_is_answered_to_readers_and_to_nobody_else(
    jp_serverapp: Any, jp_base_url: str, http_server_port: Any, http_server: Any, login: Any,
    session: Session, monkeypatch: pytest.MonkeyPatch, event: str, transport: str, credential: str,
) -> None:  # fmt: skip
    """No event writes: who may read may send each of them, others reach none of them."""
    cookie = {"Cookie": (await login())[0]}
    headers = {
        "cookie": cookie,
        "nothing": {},
        "bad token": {"Authorization": "token wrong"},
        "foreign page": {**cookie, "Origin": "https://evil.example"},
    }.get(credential, token(jp_serverapp))
    url = f"http://localhost:{http_server_port[-1]}{jp_base_url}api/training/"
    sio = f"{url}socket.io/?EIO=4&transport="
    http = AsyncHTTPClient(force_instance=True)
    sid = ""
    if transport == "polling":  # of a client that was let in: the events themselves are judged
        opener = cookie if "Cookie" in headers else token(jp_serverapp)
        reply = await http.fetch(f"{sio}polling", headers=opener)
        sid = json.loads(reply.body[1:])["sid"]
    if credential in ("read-only", "nobody"):
        judge = ReadOnly if credential == "read-only" else Nothing
        authorizer = judge(identity_provider=jp_serverapp.identity_provider)
        monkeypatch.setitem(jp_serverapp.web_app.settings, "authorizer", authorizer)
    data = {"sessionId": session.id}

    async def ask() -> str:
        """Everything that is told until the answer to a request that comes after."""
        told = ""
        if transport == "polling":
            body = "\x1e".join(["40", f"42{json.dumps([event, data])}", '421["last",{}]'])
            path = f"{sio}polling&sid={sid}"
            await http.fetch(path, method="POST", headers=headers, body=body)
            while "431[" not in told:
                told += (await http.fetch(path, headers=headers)).body.decode()
            return told
        where = f"{url}stream" if transport == "stream" else f"{sio}websocket"
        request = HTTPRequest(where.replace("http", "ws", 1), headers=HTTPHeaders(headers))
        client = await websocket_connect(request)
        if transport == "stream":
            await client.write_message(json.dumps({"event": event, "data": data}))
            await client.write_message(json.dumps({"event": "last", "data": {}}))
        else:
            for packet in ("40", f"42{json.dumps([event, data])}", '42["last",{}]'):
                await client.write_message(packet)
        while "unknown event" not in told:
            told += str(await client.read_message())
        client.close()
        return told

    if credential in ("token", "cookie", "read-only"):
        told = await ask()
        for answer in ("session_status", "session_history"):
            assert (f'"{answer}"' in told) == (answer == ASKED[event])
    else:
        with pytest.raises(HTTPClientError) as error:
            await ask()
        assert error.value.code == 403


@table(ROUTES)
async def test_a_read_only_authorizer_is_obeyed(
    call: Call, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch, verb: str, path: str
) -> None:
    reader = ReadOnly(identity_provider=jp_serverapp.identity_provider)
    monkeypatch.setitem(jp_serverapp.web_app.settings, "authorizer", reader)
    code = await call(verb, path, token(jp_serverapp))
    assert code in ((200, 101) if (verb, path) in READS else (403,))


@table([*PRIVATE, ("GET", "forge")])
async def test_an_authorizer_that_refuses_is_obeyed_everywhere(
    call: Call, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch, verb: str, path: str
) -> None:
    nobody = Nothing(identity_provider=jp_serverapp.identity_provider)
    monkeypatch.setitem(jp_serverapp.web_app.settings, "authorizer", nobody)
    assert await call(verb, path, token(jp_serverapp)) == 403


@table(ROUTES)
async def test_an_ingest_token_opens_nothing_but_its_own_sessions(
    call: Call, ingest: tuple[str, str], session: Session, verb: str, path: str
) -> None:
    session.finish()
    for kind in ("token", "bearer"):
        code = await call(verb, path, {"Authorization": f"{kind} {ingest[1]}"})
        assert code == (403 if path.startswith("api/") else 302)
    assert await call(verb, path, {}, f"?token={ingest[1]}") != 200
    if verb == "PUT":
        mine = path.replace("{id}", "mine")
        assert await call(verb, mine, {"Authorization": f"token {ingest[1]}"}) == 200
        assert await call(verb, mine, {"Authorization": f"token {ingest[1]}x"}) == 403
        foreign = {"Authorization": f"token {ingest[1]}", "Host": "evil.example"}
        assert await call(verb, mine, foreign) == 403


async def test_the_page_and_the_answers_cannot_be_made_to_run_scripts(
    jp_fetch: Any, session: Session
) -> None:
    page = await jp_fetch("forge")
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert b"token" not in page.body
    nasty = Session("<script>alert(1)</script>")
    reply = await jp_fetch("api", "training", "status", nasty.id)
    assert reply.headers["Content-Type"].startswith("application/json")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert json.loads(reply.body)["data"]["name"] == "<script>alert(1)</script>"


async def test_no_answer_and_no_log_line_holds_the_token(
    jp_fetch: Any,
    jp_serverapp: Any,
    session: Session,
    call: Call,
    ingest: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = jp_serverapp.identity_provider.token
    for path in ("status", "metrics", "poll"):
        reply = await jp_fetch("api", "training", path, session.id, params={"token": secret})
        assert secret not in reply.body.decode()
    for verb, path in ROUTES:  # also what is refused, and the sockets
        for query in (f"?token={secret}", f"?token={ingest[1]}", f"?token={secret}x"):
            await call(verb, path, {}, query)
        await call(verb, path, {"Authorization": f"token {ingest[1]}"})
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "/api/training/" in line]) > len(ROUTES)
    ours = [line for line in lines if "http://localhost" not in line]  # of this test's client
    assert not [line for line in ours if secret in line or ingest[1] in line]


async def test_a_mistake_of_ours_is_logged_with_its_traceback_and_without_the_token(
    call: Call, jp_serverapp: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("a mistake")

    secret = jp_serverapp.identity_provider.token
    monkeypatch.setattr(jp_serverapp.web_app.settings["forge_hub"].catalog, "sessions", broken)
    assert await call("GET", "api/training/sessions", {}, f"?token={secret}") == 500
    assert "RuntimeError: a mistake" in caplog.text
    assert secret not in caplog.text
