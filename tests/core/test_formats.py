"""Logs of every format version that was ever released stay readable, number for number."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from forge_notebook.core.frames import CRC, VERSION, frame_end
from forge_notebook.core.runlog import POINTS, Reader
from forge_notebook.recording import Session
from tests.fixtures.logs.record import reads_as

LOGS = Path(__file__).parent.parent / "fixtures" / "logs"


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_stored_log_reads_as_it_did_when_its_format_was_new(version: int) -> None:
    folder = LOGS / f"v{version}"
    stored = json.loads((folder / "reads_as.json").read_text())
    assert json.loads(json.dumps(reads_as(folder))) == stored


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_session_of_an_older_format_can_be_resumed(version: int, tmp_path: Path) -> None:
    folder = tmp_path / "stored"
    folder.mkdir()
    (folder / "run.log").write_bytes((LOGS / f"v{version}" / "run.log").read_bytes())
    before = len(Reader(folder / "run.log").read())
    session = Session("goes on", store=tmp_path, resume="stored")
    session.log(41, loss=0.5)
    session.finish()
    reader = Reader(folder / "run.log")
    records = reader.read()
    assert reader.lost == 0
    assert [r.data.values[0] for r in records[before:] if r.kind == POINTS] == [0.5]


def test_a_record_of_a_newer_format_is_counted_and_never_read(tmp_path: Path) -> None:
    session = Session("s", store=tmp_path, session_id="s")
    for step in range(1, 4):
        session.log(step, loss=float(step))
    session.finish()
    log = tmp_path / "s" / "run.log"
    data = bytearray(log.read_bytes())
    at, starts = 0, []
    while at < len(data):
        starts.append(at)
        at = frame_end(bytes(data), at)
    second = [at for at in starts if data[at + 2] == POINTS][1]
    end = frame_end(bytes(data), second)
    data[second + 3] = VERSION + 1
    data[end - CRC.size : end] = CRC.pack(zlib.crc32(data[second : end - CRC.size]))
    log.write_bytes(data)
    reader = Reader(log)
    assert [r.data.step for r in reader.read() if r.kind == POINTS] == [1, 3]
    assert reader.lost == 1
