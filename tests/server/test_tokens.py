"""Tokens that can only send logs: made, limited, revoked; never kept or shown again."""

from __future__ import annotations

import io
import json
import logging
import stat
import urllib.error
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from forge_notebook.cli import main
from forge_notebook.core.tokens import FILE, BadToken, TokenBook, TokenRefused, UnknownToken
from forge_notebook.recording import Session, uplink
from forge_notebook.recording.uplink import Refused, Target, Uplink, ship
from forge_notebook.server import grants
from forge_notebook.server.listener import application
from tests.server.test_ingest import aside, record, steps


@pytest.fixture
def book(jp_serverapp: Any, store: Path) -> TokenBook:
    return TokenBook(store)


@pytest.fixture
def put(jp_fetch: Any) -> Callable[..., Any]:
    """PUT bytes with a token; the size there, or the status and code of the refusal."""

    async def call(token: str, session_id: str, offset: int = 0, data: bytes = b"") -> Any:
        reply = await jp_fetch(
            "api", "training", "log", session_id, method="PUT", body=data, raise_error=False,
            params={"offset": str(offset)}, headers={"Authorization": f"token {token}"},
        )  # fmt: skip
        answer = json.loads(reply.body)
        return answer["data"]["size"] if reply.code == 200 else (reply.code, answer["code"])

    return call


def test_only_a_hash_is_kept_in_a_file_of_the_users_own(store: Path) -> None:
    book = TokenBook(store)
    grant, text = book.mint("night runs")
    assert stat.S_IMODE((store / FILE).stat().st_mode) == 0o600
    secret = text.split("_", 2)[2]
    assert len(secret) >= 43  # 256 bits
    for file in store.iterdir():
        assert secret not in file.read_text()
    assert secret not in repr(book.grants()) + json.dumps(grant.wire())
    assert book.find(text) == grant
    assert TokenBook(store).grants() == [grant]


def test_what_is_no_token_of_this_store_is_refused(store: Path, tmp_path: Path) -> None:
    book = TokenBook(store)
    grant, text = book.mint()
    other, foreign = TokenBook(tmp_path / "other").mint()
    swapped = foreign.replace(other.id, grant.id)
    for wrong in ("", "forge_", f"forge_{grant.id}", f"forge_{grant.id}_", text + "x", text[:-1],
                  text.upper(), foreign, swapped):  # fmt: skip
        with pytest.raises(TokenRefused):
            book.find(wrong)


def test_a_revoked_token_is_refused_at_once_also_by_who_has_read_the_file(store: Path) -> None:
    book, there = TokenBook(store), TokenBook(store)
    grant, text = book.mint()
    _, kept = book.mint()
    there.find(text)
    book.revoke(grant.id)
    with pytest.raises(TokenRefused):
        there.find(text)
    there.find(kept)
    with pytest.raises(UnknownToken):
        there.revoke(grant.id)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "a\nb"}, {"name": "\x1b[2J"}, {"name": "x" * 101}, {"sessions": []},
     {"sessions": ["../x"]}, {"session_bytes": 0}, {"total_bytes": -1}],
)  # fmt: skip
def test_impossible_tokens_are_not_made(store: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadToken):
        TokenBook(store).mint(**wrong)
    assert not (store / FILE).exists()


async def test_a_training_elsewhere_needs_no_more_than_such_a_token(
    server: Target, here: Path, store: Path, book: TokenBook,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    _, text = book.mint()
    session = record(here)
    assert await aside(ship, session.folder, Target(server.url, text), patience_s=0)
    assert steps(store / session.id / "run.log") == list(range(300))
    assert text not in caplog.text
    for file in store.rglob("*"):
        assert not file.is_file() or text.encode() not in file.read_bytes(), file


async def test_revoking_ends_a_sender_in_mid_run_and_it_says_why(
    server: Target,
    here: Path,
    book: TokenBook,
) -> None:
    grant, text = book.mint()
    session = Session("far", store=here)
    sender = Uplink(session.folder, Target(server.url, text))
    await aside(sender.step)
    book.revoke(grant.id)
    with pytest.raises(Refused, match=r"403.*revoked \(token_refused\)"):
        await aside(sender.step)
    sender.close()


async def test_a_token_writes_what_it_began_and_what_it_names_and_nothing_else(
    put: Callable[..., Any], book: TokenBook
) -> None:
    for name in ("local", "named"):
        Session(name, session_id=name).finish()
    (_, one), (_, other) = book.mint(), book.mint()
    _, night = book.mint(sessions=["night-*", "named"])
    assert await put(one, "mine", 0, b"abc") == 3
    assert await put(one, "mine", 3, b"d") == 4
    assert await put(other, "mine", 4, b"e") == (403, "token_refused")
    assert await put(one, "local") == (403, "token_refused")
    assert await put(night, "day-1") == (403, "token_refused")
    assert await put(night, "night-1", 0, b"x") == 1
    assert isinstance(await put(night, "named"), int)
    assert await put(one, "..%2fx") in [(400, "invalid_session_id"), (404, "not_found")]


async def test_quotas_hold_for_each_session_for_all_and_come_back_with_a_deletion(
    put: Callable[..., Any], book: TokenBook, jp_fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants, "COUNT_S", 0.0)
    _, text = book.mint(session_bytes=100, total_bytes=150)
    assert await put(text, "a", 0, bytes(100)) == 100
    assert await put(text, "a", 100, b"x") == (413, "quota_exceeded")
    assert await put(text, "a", 50, bytes(50)) == 100  # sent again: nothing new
    assert await put(text, "b", 0, bytes(51)) == (413, "quota_exceeded")
    assert await put(text, "b", 0, bytes(50)) == 50
    await jp_fetch("api", "training", "log", "a", method="PUT", body=b"", params={"end": "1"})
    await jp_fetch("api", "training", "sessions", "a", method="DELETE")
    assert await put(text, "b", 50, bytes(50)) == 100
    monkeypatch.setattr(grants, "MAX_SESSIONS", 1)
    assert await put(text, "c") == (413, "quota_exceeded")


async def test_quotas_count_what_was_there_before_the_server_started(
    put: Callable[..., Any], book: TokenBook, store: Path
) -> None:
    grant, text = book.mint(total_bytes=100)
    folder = store / "before"
    folder.mkdir()
    (folder / grants.OWNER).write_text(grant.id)
    (folder / "run.log").write_bytes(bytes(90))
    assert await put(text, "new", 0, bytes(11)) == (413, "quota_exceeded")
    assert await put(text, "new", 0, bytes(10)) == 10


async def test_a_full_quota_is_said_to_the_sender(
    server: Target,
    here: Path,
    book: TokenBook,
) -> None:
    _, text = book.mint(session_bytes=1000)
    session = record(here)
    with pytest.raises(Refused, match=r"1000 bytes \(quota_exceeded\)"):
        await aside(ship, session.folder, Target(server.url, text), patience_s=60)


async def test_tokens_are_made_listed_and_revoked_over_http(
    jp_fetch: Any, put: Callable[..., Any]
) -> None:
    path = ("api", "training", "tokens")
    body = json.dumps({"name": "gpu box", "sessions": ["far-*"], "sessionBytes": 10})
    reply = await jp_fetch(*path, method="POST", body=body)
    made = json.loads(reply.body)["data"]
    assert reply.headers["Cache-Control"] == "no-store"
    text = made.pop("token")
    listed = json.loads((await jp_fetch(*path)).body)["data"]
    assert listed == [made]
    assert made["name"] == "gpu box"
    assert (made["sessionBytes"], made["sessions"]) == (10, ["far-*"])
    assert await put(text, "far-1", 0, b"x") == 1
    await jp_fetch(*path, made["tokenId"], method="DELETE")
    assert await put(text, "far-1", 1, b"x") == (403, "token_refused")
    with pytest.raises(HTTPClientError, match="404"):
        await jp_fetch(*path, made["tokenId"], method="DELETE")
    for wrong in ({"name": 1}, {"sessions": "x"}, {"sessions": ["/"]}, {"sessionBytes": "many"}):
        with pytest.raises(HTTPClientError, match="400"):
            await jp_fetch(*path, method="POST", body=json.dumps(wrong))


def test_the_command_makes_lists_and_revokes(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "new", "gpu box", "--session", "far-*", "--session-mb", "5"]) == 0
    text = capsys.readouterr().out.strip()
    grant = TokenBook(store).find(text)
    assert (grant.name, grant.sessions, grant.session_bytes) == ("gpu box", ("far-*",), 5_000_000)
    assert main(["token", "list"]) == 0
    shown = capsys.readouterr().out
    assert "gpu box" in shown
    assert text not in shown
    assert main(["token", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [grant.wire()]
    assert main(["token", "revoke", grant.id]) == 0
    assert main(["token", "revoke", grant.id]) == 2
    assert "no token" in capsys.readouterr().err
    with pytest.raises(TokenRefused):
        TokenBook(store).find(text)


async def test_a_server_that_takes_none_and_the_open_listener_know_no_tokens(
    put: Callable[..., Any], book: TokenBook, jp_serverapp: Any, jp_fetch: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    _, text = book.mint()
    monkeypatch.setitem(jp_serverapp.web_app.settings, "forge_grants", None)
    assert (await put(text, "far"))[0] == 403
    with pytest.raises(HTTPClientError, match="404"):
        await jp_fetch("api", "training", "tokens")
    hub = jp_serverapp.web_app.settings["forge_hub"]
    assert "forge_grants" not in application(hub, []).settings


def test_the_answer_of_a_proxy_is_not_repeated() -> None:
    for body in (b"<html>", b"[]", b'{"error": "\\u001b[2J", "code": "x"}', b""):
        error = urllib.error.HTTPError("http://x", 403, "no", Message(), io.BytesIO(body))
        assert uplink._said(error) == ""
        error.close()
