"""The list of a store, and the index behind it."""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from pathlib import Path

import pytest

from forge_notebook.core import catalog as module
from forge_notebook.core.catalog import Catalog, new_session_id
from forge_notebook.core.follower import Follower
from forge_notebook.core.frames import (
    COLUMNS,
    CRC,
    EVENT,
    HEAD,
    POINT,
    POINTS,
    SESSION,
    SYNC,
    VERSION,
)
from forge_notebook.core.listing import NAME
from forge_notebook.core.session import SessionState
from forge_notebook.core.wire import encode
from forge_notebook.recording import Session


def record(store: Path, count: int) -> list[str]:
    made = []
    for number in range(count):
        with Session(f"s{number}", store=store) as session:
            session.log(1, loss=float(number))
        made.append(session.id)
    return made


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the sessions whose logs were folded."""
    seen: list[str] = []

    def fold(session_id: str) -> SessionState:
        seen.append(session_id)
        return SessionState(session_id)

    monkeypatch.setattr(module, "SessionState", fold)
    return seen


def test_ended_sessions_are_folded_once_for_every_reader(store: Path, folds: list[str]) -> None:
    made = record(store, 5)
    first = Catalog(store).sessions()
    assert sorted(folds) == sorted(made)
    assert Catalog(store).sessions() == first
    assert len(folds) == 5
    assert {s["sessionId"] for s in first} == set(made)
    assert {s["status"] for s in first} == {"completed"}


def test_a_running_session_is_read_each_time_and_kept_when_it_ended(
    store: Path, folds: list[str]
) -> None:
    catalog = Catalog(store)
    session = Session("live", store=store)
    for step in range(1, 4):
        session.log(step, loss=1.0)
        (status,) = catalog.sessions()
        assert status["metrics"] is not None
        assert (status["metrics"]["currentStep"], status["status"]) == (step, "running")
    session.finish()
    assert [s["status"] for s in catalog.sessions()] == ["completed"]
    assert [s["status"] for s in Catalog(store).sessions()] == ["completed"]
    assert folds == [session.id]


def test_a_session_taken_up_again_is_read_again(store: Path) -> None:
    (session_id,) = record(store, 1)
    catalog = Catalog(store)
    catalog.sessions()
    again = Session("s0", store=store, resume=session_id)
    assert [s["status"] for s in catalog.sessions()] == ["running"]
    again.finish("stopped")
    assert [s["status"] for s in catalog.sessions()] == ["stopped"]


def test_sessions_that_begin_in_the_same_second_have_ids_of_their_own() -> None:
    assert len({new_session_id("array") for _ in range(1000)}) == 1000


def test_deleted_sessions_leave_the_list_and_the_index(store: Path) -> None:
    made = record(store, 3)
    catalog = Catalog(store)
    catalog.sessions()
    catalog.delete(made[0])
    shutil.rmtree(store / made[1])
    assert [s["sessionId"] for s in catalog.sessions()] == [made[2]]
    with sqlite3.connect(store / NAME) as db:
        assert db.execute("SELECT id FROM sessions").fetchall() == [(made[2],)]


@pytest.mark.parametrize("harm", ["delete", "garbage", "old", "directory", "truncate"])
def test_the_index_can_be_harmed_at_any_time(store: Path, harm: str) -> None:
    record(store, 3)
    catalog = Catalog(store)
    whole = catalog.sessions()
    index = store / NAME
    data = index.read_bytes()
    index.unlink()
    if harm == "garbage":
        index.write_bytes(b"\x00garbage" * 5000)
    elif harm == "old":
        with sqlite3.connect(index) as db:
            db.execute("CREATE TABLE sessions (something TEXT)")
    elif harm == "directory":
        index.mkdir()
    elif harm == "truncate":
        index.write_bytes(data[: len(data) // 2])
    assert catalog.sessions() == whole
    assert Catalog(store).sessions() == whole
    assert Catalog(store).sessions() == whole


def test_a_store_that_is_not_there_has_no_sessions(tmp_path: Path) -> None:
    assert Catalog(tmp_path / "none").sessions() == []
    assert not (tmp_path / "none").exists()


ODD_RECORDS = [
    (SESSION, b"no JSON"),
    (SESSION, b"[]"),
    (SESSION, b'{"name": "without a time"}'),
    (SESSION, b'{"time": 1e999}'),
    (SESSION, b'{"time": 1%s}' % (b"0" * 400)),
    (SESSION, rb'{"time": 1, "name": "\ud800"}'),
    (SESSION, b'{"time": 1, "models": "many", "totalSteps": [], "config": 1, "pid": {}}'),
    (SESSION, b'{"time": 1, "models": 70000}'),
    (COLUMNS, b'{"id": 1}'),
    (EVENT, b'{"time": 1}'),
    (EVENT, b'{"time": 1, "event": "odd", "data": []}'),
    (EVENT, b'{"time": 1, "event": "odd", "data": {"x": NaN}}'),
    (EVENT, b'{"time": 1, "event": "model_completed", "data": {}}'),
    (EVENT, b'{"time": 1, "event": "model_started", "data": {"modelIndex": 70000}}'),
    (POINTS, b"short"),
    (POINTS, POINT.pack(1, 1, 0, 0)),  # without its values
]


@pytest.mark.parametrize(("kind", "payload"), ODD_RECORDS)
def test_a_session_of_odd_records_takes_no_other_from_the_list(
    store: Path, kind: int, payload: bytes
) -> None:
    Session("good", store=store).finish()
    odd = Session("odd", store=store)
    odd.log(1, loss=1.0)
    odd.finish()
    frame = HEAD.pack(SYNC, kind, VERSION, len(payload), 100) + payload
    with open(odd.folder / "run.log", "ab") as log:
        log.write(frame + CRC.pack(zlib.crc32(frame)))
    sessions = Catalog(store).sessions()
    assert {session["name"] for session in sessions} >= {"good"}
    assert len(sessions) == 2
    follower = Follower(odd.folder)
    follower.load()
    assert len(follower.state.models) == 1
    for message in follower.opening(None):
        encode(*message).encode()
