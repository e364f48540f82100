"""The card's kernel side: what it sends, when, and what a saved notebook keeps."""

from __future__ import annotations

import json
import math
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

import forge_notebook as forge
from forge_notebook.core.follower import Follower
from forge_notebook.core.wire import MIME_TYPE
from forge_notebook.notebook import widget as module
from forge_notebook.notebook.picture import picture
from forge_notebook.notebook.publisher import publisher
from forge_notebook.notebook.widget import SessionWidget
from forge_notebook.recording import Session

Sent = list[dict[str, Any]]


@pytest.fixture
def session() -> Iterator[Session]:
    session = forge.session("Card", total_steps=100)
    session.log(1, loss=2.0)
    yield session
    session.finish()


@pytest.fixture
def card(session: Session) -> Iterator[SessionWidget]:
    widget = session.widget
    yield widget
    widget.close()


@pytest.fixture
def sent(card: SessionWidget, monkeypatch: pytest.MonkeyPatch) -> Sent:
    messages: Sent = []
    monkeypatch.setattr(card, "send", lambda content, buffers=None: messages.append(content))
    return messages


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def take_over(card: SessionWidget) -> None:
    """The publisher looks after the card no more, and no round that still had it goes on."""
    publisher.remove(card)
    done = threading.Event()
    last: Any = SimpleNamespace(answer=lambda *_: done.set())
    publisher.request(last, "", {})
    assert done.wait(20)


def page_says(card: SessionWidget, event: str, **data: Any) -> None:
    card._handle_custom_msg({"event": event, "data": data}, [])


def test_nothing_is_sent_while_nobody_looks(session: Session, sent: Sent) -> None:
    for step in range(2, 50):
        session.log(step, loss=1.0)
    time.sleep(0.35)
    assert sent == []


def test_rows_are_read_for_a_moment_each_second_while_nobody_looks(
    session: Session, card: SessionWidget, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_over(card)
    read = card._follower.state.seq
    for step in range(2, 2002):
        session.log(step, loss=1.0)
    monkeypatch.setattr(module, "UNSEEN_S", -1.0)  # the moment is over with the first rows
    for rounds in range(1, 4):
        card._next_unseen = 0.0
        for _ in range(10):
            card.publish()
        assert card._follower.state.seq == read + 100 * rounds
    monkeypatch.setattr(module, "UNSEEN_S", 20.0)
    card._next_unseen = 0.0
    card.publish()
    assert card._follower.state.seq >= 2000
    assert sent == []
    card.answer("subscribe_session", {})
    assert sent[-1]["data"]["seq"] >= 2000


def test_a_page_gets_the_opening_then_every_point_once(
    session: Session, card: SessionWidget, sent: Sent
) -> None:
    began = time.monotonic()
    page_says(card, "subscribe_session", sessionId=session.id)
    wait_for(lambda: len(sent) >= 2)
    assert [m["event"] for m in sent[:2]] == ["session_status", "progress_update"]
    for step in range(2, 60):
        session.log(step, loss=float(step))
        time.sleep(0.005)

    def losses() -> list[float]:
        return [
            value
            for message in sent
            for block in message["data"].get("series", [])
            for value in block["values"][block["columns"].index("loss")]
        ]

    wait_for(lambda: len(losses()) >= 59)
    assert losses() == [2.0, *map(float, range(2, 60))]
    # The opening, a burst of two, then 10 Hz: 0.3 s or more, and not one for each of 58 points.
    assert len(sent) <= 4 + 10 * (time.monotonic() - began)


def test_at_most_ten_updates_a_second_however_often_it_looks_and_events_at_once(
    session: Session, card: SessionWidget, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_over(card)
    clock = 0.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock))
    card._seen_until = math.inf
    for look in range(100):
        clock = 0.02 * look
        session.log(look + 2, loss=1.0)
        card.publish()
    updates = [m["data"] for m in sent if m["event"] == "progress_update"]
    assert 20 <= len(updates) <= 22  # two seconds, and a burst of two
    assert all(b["fromSeq"] == a["seq"] for a, b in pairwise(updates))
    session.event("checkpoint_saved", path="x")
    card.publish()
    assert sent[-1]["event"] == "checkpoint_saved"


def test_a_page_that_comes_back_resumes_by_its_cursor(
    session: Session, card: SessionWidget, sent: Sent
) -> None:
    page_says(card, "subscribe_session", sessionId=session.id)
    wait_for(lambda: len(sent) >= 2)
    cursor = sent[1]["data"]["seq"]
    session.log(2, loss=1.0)
    wait_for(lambda: any(m["data"].get("fromSeq") == cursor for m in sent))
    sent.clear()
    page_says(card, "subscribe_session", sessionId=session.id, after=cursor)
    wait_for(lambda: len(sent) >= 2)
    assert sent[1]["data"]["fromSeq"] == cursor
    assert sent[1]["data"]["series"][0]["values"] == [[1.0]]


def test_control_and_detail_go_by_the_comm_as_well(
    session: Session, card: SessionWidget, sent: Sent
) -> None:
    page_says(card, "control", id="c-1", command="stop", args={})
    wait_for(lambda: session.should_stop)
    page_says(card, "subscribe_session", sessionId=session.id)
    wait_for(lambda: [m for m in sent if m["event"] == "session_status"])
    page_says(card, "series", id="q", metrics=["loss"], **{"from": 0, "to": 5}, points=10, x="step")
    wait_for(lambda: [m for m in sent if m["event"] == "series"])
    (answer,) = [m for m in sent if m["event"] == "series"]
    assert answer["data"]["id"] == "q"
    assert answer["data"]["series"][0]["values"] == [[2.0]]
    page_says(card, "control", id="c-2", command="jump", args={})

    def answers() -> dict[str, bool]:
        acks = [m["data"] for m in sent if m["event"] == "command_ack"]
        return {ack["commandId"]: ack["ok"] for ack in acks}

    wait_for(lambda: "c-2" in answers())
    assert answers() == {"c-1": True, "c-2": False}


def test_a_malformed_message_of_a_page_breaks_nothing(card: SessionWidget, sent: Sent) -> None:
    broken: list[Any] = [None, [], {"event": 1}, {"event": "series", "data": {"points": "many"}}]
    for content in broken:
        card._handle_custom_msg(content, [])
    page_says(card, "subscribe_session", sessionId="x", after="soon")
    wait_for(lambda: [m for m in sent if m["event"] == "session_status"])
    (refusal,) = [m for m in sent if m["event"] == "error"]
    assert refusal["data"]["code"]


def test_the_page_learns_that_a_session_takes_commands_from_now_on(
    session: Session, card: SessionWidget, sent: Sent
) -> None:
    def controllable() -> list[bool]:
        return [m["data"]["controllable"] for m in sent if m["event"] == "session_status"]

    page_says(card, "subscribe_session", sessionId=session.id)
    wait_for(controllable)
    assert controllable() == [False]
    assert not session.should_stop
    session.log(2, loss=1.0)
    wait_for(lambda: len(controllable()) > 1)
    time.sleep(0.3)
    assert controllable() == [False, True]


def test_a_card_of_an_ended_session_shown_again_redraws_no_other(
    session: Session, card: SessionWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    updated: list[Any] = []
    monkeypatch.setattr(module, "display", lambda *a, **k: None)
    monkeypatch.setattr(module, "update_display", lambda *a, **k: updated.append(a))
    session.finish()
    for _ in range(3):
        card._ipython_display_()
    time.sleep(0.3)
    assert updated == []


def test_the_state_is_packed_when_asked_and_not_before(
    session: Session, card: SessionWidget
) -> None:
    assert card.get_state()["snapshot"]["update"]["series"][0]["values"] == [[2.0]]
    assert card.get_state()["session_id"] == session.id


def test_a_saved_output_holds_text_picture_and_snapshot(card: SessionWidget) -> None:
    bundle = card._bundle()
    assert bundle["text/plain"] == "Session card: Card"
    assert "text/html" not in bundle
    assert bundle[MIME_TYPE]["sessionId"] == card.session_id
    png = bundle["image/png"]
    assert len(png) < 30_000
    assert struct.unpack(">II", png[16:24]) == (1440, 640)


def test_what_is_saved_stands_still_while_it_is_drawn(
    session: Session, card: SessionWidget, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_meanwhile: list[int] = []

    def draw(follower: Follower) -> bytes:
        before = follower.state.seq
        session.log(2, loss=1.0)
        time.sleep(0.3)
        read_meanwhile.append(follower.state.seq - before)
        return b""

    page_says(card, "subscribe_session", sessionId=session.id)
    wait_for(lambda: len(sent) >= 2)
    monkeypatch.setattr(module, "picture", draw)
    card._bundle()
    assert read_meanwhile == [0]


def test_a_saved_output_stays_small_whatever_the_session() -> None:
    config = {f"key_{i}": "x" * 50 for i in range(100)}
    session = forge.session("big", models=3, total_steps=3000, config=config)
    for step in range(1000):
        for model in range(3):
            values = {name: math.exp(-step / 300) / 3 for name in "abcdefghijklm"}
            session.log(step, model=model, loss=1 / (step + 1), val_loss=2.0, **values)
        session.event("checkpoint_saved", step=step, path=f"/store/{step}.pt")
    bundle = session.widget._bundle()
    saved = bundle[MIME_TYPE]
    assert len(json.dumps(saved, separators=(",", ":"))) < 16_000
    blocks = saved["snapshot"]["update"]["series"]
    assert {(b["model"], b["columns"][0]) for b in blocks} == {
        (m, name) for m in range(3) for name in ("loss", "val_loss")
    }
    first = next(b for b in blocks if b["columns"] == ["loss"])
    assert first["values"][0][0] == 1.0
    assert first["step"][-1] == 999
    session.finish()


@pytest.mark.parametrize(("event", "says"), [("card", b"render"), ("plotly", b"Plotly")])
def test_the_kernel_sends_the_front_end_where_no_server_does(
    event: str, says: bytes, card: SessionWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[Any, Any]] = []
    monkeypatch.setattr(card, "send", lambda content, buffers=None: sent.append((content, buffers)))
    page_says(card, event)
    wait_for(lambda: sent)
    assert sent[0][0]["event"] == event
    assert says in sent[0][1][0]


def test_what_is_sent_with_each_widget_is_small(card: SessionWidget) -> None:
    state = card.get_state()
    assert len(state["_esm"]) < 10_000
    assert not state.get("_css")


def test_the_picture_shows_the_curve() -> None:
    session = forge.session("p", total_steps=100)
    widget = session.widget
    empty = _pixels(picture(widget._follower))
    for step in range(100):
        session.log(step, loss=100.0 / (step + 1))
    session.log(100, loss=float("nan"), val_loss=0.0)
    widget._follower.load()
    drawn = _pixels(picture(widget._follower))
    assert empty.count(3) == 0  # 3: the first model's hue
    assert drawn.count(3) > 2000
    session.finish()


def _pixels(png: bytes) -> list[int]:
    at = png.index(b"IDAT")
    (size,) = struct.unpack(">I", png[at - 4 : at])
    raw = zlib.decompress(png[at + 4 : at + 4 + size])
    rows = [raw[i + 1 : i + 721] for i in range(0, len(raw), 721)]
    return [nibble for row in rows for byte in row for nibble in (byte >> 4, byte & 15)]


def test_the_saved_output_is_refreshed_once_at_the_end(
    session: Session, card: SessionWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []

    class Handle:
        display_id = "d"

    def show(bundle: Any, **options: Any) -> Handle:
        shown.append(bundle)
        return Handle()

    monkeypatch.setattr(module, "display", show)
    monkeypatch.setattr(module, "update_display", lambda *a, **k: shown.append(a[0]))
    card._ipython_display_()
    session.log(2, loss=1.0)
    session.finish()
    wait_for(lambda: len(shown) == 2)
    time.sleep(0.3)
    assert len(shown) == 2
    status = shown[1][MIME_TYPE]["snapshot"]["status"]
    assert status["status"] == "completed"


def test_one_card_for_a_session_however_it_is_asked_for(session: Session) -> None:
    assert session.widget is forge.watch(session)
    assert forge.watch(session.id) is session.widget
    with pytest.raises(Exception, match="no session 'nobody'"):
        forge.watch("nobody")
