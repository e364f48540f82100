"""The index of a long session: the same as the fold, and of no consequence."""

from __future__ import annotations

import math
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from forge_notebook.core import index
from forge_notebook.core.catalog import Catalog
from forge_notebook.core.follower import Follower
from forge_notebook.core.runlog import EVENT, SESSION, Record, Writer
from forge_notebook.core.session import SessionState

ROWS = 3000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "WORTH_BYTES", 1000)


def grow(folder: Path, rows: int = ROWS, begin: int = 0, end: bool = False) -> None:
    folder.mkdir(exist_ok=True)
    writer = Writer(folder / "run.log")
    start = 1_700_000_000_000_000_000
    if begin == 0:
        writer.append_json(SESSION, {"id": folder.name, "time": start, "models": 2})
        event: dict[str, Any] = {"event": "training_started", "time": start, "data": {}}
        writer.append_json(EVENT, event)
    for step in range(begin, begin + rows):
        value = math.nan if step == 1234 else 2 + math.sin(step)
        writer.append_point(step, step % 2, {"loss": value, "lr": 0.1}, start + step * 10**8)
        if step % 100 == 99:
            writer.append_point(step, 0, {"val_loss": 1.5}, start + step * 10**8)
    if end:
        writer.append_json(EVENT, {"event": "training_completed", "time": start, "data": {}})
    writer.abandon()


def picture(follower: Follower) -> str:
    """Everything that a viewer could see."""
    return repr(
        [
            follower.status(),
            follower.curves.overview(50),
            follower.curves.overview(20_000),
            follower.since(0, follower.sent),
            follower.recent_rows(400, None),
            follower.opening(None),
        ]
    )


def loaded(folder: Path) -> Follower:
    follower = Follower(folder)
    follower.load()
    return follower


def folded(folder: Path) -> Follower:
    (folder / index.NAME).unlink(missing_ok=True)
    return loaded(folder)


def test_what_is_kept_is_what_the_fold_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "s"
    grow(folder, end=True)
    fresh = picture(folded(folder))
    assert (folder / index.NAME).exists()
    monkeypatch.setattr(Follower, "_keep_event", None)  # nothing is folded again
    assert picture(loaded(folder)) == fresh


def test_a_log_that_grew_is_read_on_from_there(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    grow(folder)
    loaded(folder)
    grow(folder, 500, ROWS, end=True)
    before = (folder / index.NAME).stat().st_mtime_ns
    grown = picture(loaded(folder))
    assert (folder / index.NAME).stat().st_mtime_ns == before  # too little to write it again
    assert grown == picture(folded(folder))


@pytest.mark.parametrize("place", [0.0, 0.001, 0.1, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_a_damaged_index_is_not_believed(tmp_path: Path, harm: str, place: float) -> None:
    folder = tmp_path / "s"
    grow(folder)
    fresh = picture(loaded(folder))
    file = folder / index.NAME
    data = bytearray(file.read_bytes())
    at = int(place * len(data))
    if harm == "flip":
        data[at] ^= 0x40
    else:
        del data[at:]
    file.write_bytes(data)
    assert picture(loaded(folder)) == fresh


def test_the_index_of_another_log_is_not_believed(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    grow(folder)
    loaded(folder)
    (folder / "run.log").unlink()
    grow(folder, 200)
    assert len(loaded(folder).curves.overview(20_000, metrics=["val_loss"])[0]["seq"]) == 2


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("called",))


def test_an_index_cannot_make_anything_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "s"
    grow(folder)
    fresh = picture(folded(folder))
    head = pickle.dumps({"offset": 0, "tail": 0, "state": Evil(), "arrays": []})
    code = index._code()
    data = struct.pack("<8sIIQ", b"forgeix1", code, zlib.crc32(head), len(head)) + head
    (folder / index.NAME).write_bytes(data)
    assert picture(loaded(folder)) == fresh
    assert "called" not in capsys.readouterr().out


def test_the_process_that_writes_the_log_writes_no_index(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    grow(folder)
    writer = Writer(folder / "run.log")
    loaded(folder)
    assert not (folder / index.NAME).exists()
    writer.abandon()
    loaded(folder)
    assert (folder / index.NAME).exists()
    assert [p.name for p in folder.iterdir() if p.name.startswith(".index")] == []


def test_the_catalog_folds_only_what_the_index_does_not_cover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "s"
    grow(folder)
    whole = Catalog(tmp_path)
    loaded(folder)  # writes the index
    grow(folder, rows=10, begin=ROWS, end=True)
    folded: list[int] = []
    apply = SessionState.apply

    def counted(self: SessionState, record: Record) -> None:
        folded.append(record.seq)
        apply(self, record)

    monkeypatch.setattr(SessionState, "apply", counted)
    status = Catalog(tmp_path).status("s")
    assert 10 <= len(folded) <= 12
    (folder / index.NAME).unlink()
    assert status == whole.status("s")
