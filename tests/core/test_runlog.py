"""The run log against what disks and kills do to files."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forge_notebook.core.errors import SessionBusy
from forge_notebook.core.runlog import (
    EVENT,
    POINTS,
    SESSION,
    Reader,
    Writer,
    has_writer,
    read_log,
)


def write_some(path: Path, rows: int = 20) -> list[tuple[int, float]]:
    writer = Writer(path)
    writer.append_json(SESSION, {"id": "s", "time": 1})
    for step in range(rows):
        writer.append_point(step, 0, {"loss": step / 2, "lr": 0.1})
    writer.append_json(EVENT, {"event": "training_completed", "time": 2, "data": {}})
    writer.close()
    return [(step, step / 2) for step in range(rows)]


def points(path: Path) -> list[tuple[int, float]]:
    return [(r.data.step, r.data.values[0]) for r in read_log(path) if r.kind == POINTS]


def test_reads_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    rows = write_some(path)
    records = list(read_log(path))
    assert [r.seq for r in records] == [1, *range(3, 24)]  # 2 is the columns record
    assert points(path) == rows
    assert records[-1].data["event"] == "training_completed"


def test_reader_follows_a_growing_log(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    reader = Reader(path)
    assert reader.read() == []
    writer = Writer(path)
    for step in range(5):
        writer.append_point(step, 0, {"loss": 1.0})
        assert [r.data.step for r in reader.read()] == [step]
    assert reader.read() == []


def test_a_log_cut_at_every_byte_gives_the_records_before_the_cut(tmp_path: Path) -> None:
    whole = tmp_path / "whole.log"
    rows = write_some(whole, rows=4)
    data = whole.read_bytes()
    cut = tmp_path / "cut.log"
    for length in range(len(data) + 1):
        cut.write_bytes(data[:length])
        got = points(cut)
        assert got == rows[: len(got)]
    assert got == rows


def test_writing_goes_on_after_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    rows = write_some(path, rows=4)
    for torn in (1, 7, 19, 40):
        with open(path, "r+b") as file:
            file.truncate(path.stat().st_size - torn)
        writer = Writer(path)
        writer.append_point(100 + torn, 0, {"loss": 1.0})
        writer.close()
        assert (100 + torn, 1.0) in points(path)
    assert points(path)[:3] == rows[:3]


def test_reader_resumes_after_a_damaged_record_and_counts_it(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    rows = write_some(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    reader = Reader(path)
    got = [(r.data.step, r.data.values[0]) for r in reader.read() if r.kind == POINTS]
    assert len(got) == len(rows) - 1
    assert set(got) < set(rows)
    assert reader.lost == 1


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)), min_size=1, max_size=6))
def test_flipped_bits_never_make_a_wrong_number(
    tmp_path: Path, flips: list[tuple[float, int]]
) -> None:
    path = tmp_path / "run.log"
    path.unlink(missing_ok=True)
    rows = write_some(path)
    data = bytearray(path.read_bytes())
    for place, bit in flips:
        data[min(len(data) - 1, int(place * len(data)))] ^= 1 << bit
    path.write_bytes(data)
    reader = Reader(path)
    got = [(r.data.step, r.data.values[0]) for r in reader.read() if r.kind == POINTS]
    assert set(got) <= set(rows)
    assert got == sorted(got)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    first = Writer(path)
    assert has_writer(path)
    with pytest.raises(SessionBusy, match="another process"):
        Writer(path)
    first.close()
    assert not has_writer(path)
    Writer(path).close()


def test_new_metrics_in_mid_run_and_sparse_ones(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    writer = Writer(path)
    writer.append_point(1, 0, {"loss": 1.0})
    writer.append_point(2, 3, {"val_loss": 2.0, "loss": 1.5})
    writer.append_point(3, 0, {"loss": 0.5})
    read = [(r.data.model, r.data.names, r.data.values) for r in read_log(path) if r.kind == POINTS]
    assert read == [
        (0, ("loss",), (1.0,)),
        (3, ("val_loss", "loss"), (2.0, 1.5)),
        (0, ("loss",), (0.5,)),
    ]


def test_a_full_disk_costs_rows_that_are_counted_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.log"
    writer = Writer(path)
    writer.append_json(SESSION, {"id": "s", "time": 1})
    writer.append_point(1, 0, {"loss": 1.0})
    real = os.write

    def full(fd: int, data: bytes) -> int:
        half = len(data) // 2
        real(fd, data[:half])  # a full disk takes part of a write
        if random.random() < 0.5:
            return half
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for step in range(2, 5):
        writer.append_point(step, 0, {"loss": 1.0, "new": 2.0})
    writer.append_json(EVENT, {"event": "checkpoint_saved", "time": 3, "data": {}})
    monkeypatch.setattr(os, "write", real)
    writer.append_point(5, 0, {"loss": 1.0, "new": 2.0})
    assert writer.lost == 3
    assert "losses are counted" in caplog.text
    assert "recording again; 3 rows were lost" in caplog.text
    reader = Reader(path)
    records = reader.read()
    assert [r.data.step for r in records if r.kind == POINTS] == [1, 5]
    assert [r.data["event"] for r in records if r.kind == EVENT] == ["checkpoint_saved"]
    assert reader.lost == 3


def test_a_removed_log_is_begun_anew_and_the_loss_is_known(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    reader = Reader(path)
    writer = Writer(path)
    writer.append_json(SESSION, {"id": "s", "time": 1})
    for step in range(5):
        writer.append_point(step, 0, {"loss": 1.0})
    reader.read()
    path.unlink()
    writer.keep_file()
    writer.append_point(5, 0, {"loss": 1.0})
    assert [r.data.step for r in reader.read() if r.kind == POINTS] == [5]
    anew = Reader(path)
    records = anew.read()
    assert [r.kind for r in records] == [SESSION, POINTS]
    assert anew.lost == 7  # the five rows, the session record and its columns


def test_a_log_begun_anew_is_known_also_by_an_inode_of_the_same_number(tmp_path: Path) -> None:
    """Written over in place: to a reader that is what a removed log looks like whose inode number
    went to the next one, which had outgrown it before the reader looked."""
    path = tmp_path / "run.log"
    writer = Writer(path)
    for step in range(5):
        writer.append_point(step, 0, {"loss": 1.0})
    reader = Reader(path)
    assert len(reader.read()) == 5
    path.rename(tmp_path / "removed")
    writer.keep_file()
    names = {"loss": 1.0, "lr": 0.1}  # other frames: the old offset is in the middle of one
    for step in range(5, 40):
        writer.append_point(step, 0, names)
    anew = path.read_bytes()
    path.rename(tmp_path / "anew")
    (tmp_path / "removed").rename(path)
    path.write_bytes(anew)
    assert path.stat().st_size > reader.offset
    assert [r.data.step for r in reader.read() if r.kind == POINTS] == list(range(5, 40))
    assert (reader.lost, reader.offset) == (0, len(anew))


CHILD = """
import sys, time
from pathlib import Path
from forge_notebook.core.runlog import Writer
writer = Writer(Path(sys.argv[1]))
step = 0
while True:
    step += 1
    writer.append_point(step, 0, {"loss": 1.0 / step, "lr": 0.1})
    sys.stdout.write(f"{step}\\n"); sys.stdout.flush()
"""


@pytest.mark.parametrize("attempt", range(6))
def test_every_acknowledged_record_survives_sigkill(tmp_path: Path, attempt: int) -> None:
    path = tmp_path / "run.log"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    wanted = random.randrange(1, 3000)
    acknowledged = 0
    for line in child.stdout:
        acknowledged = int(line)
        if acknowledged >= wanted:
            break
    child.send_signal(signal.SIGKILL)
    for line in child.stdout:
        if line.endswith(b"\n"):
            acknowledged = int(line)
    child.wait()
    child.stdout.close()
    steps = [step for step, _ in points(path)]
    assert steps[:acknowledged] == list(range(1, acknowledged + 1))
    assert not has_writer(path)


def test_a_forked_child_leaves_the_log_to_its_parent(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from forge_notebook.core.runlog import Writer, has_writer
path = Path({str(tmp_path / "run.log")!r})
writer = Writer(path)
writer.append_point(1, 0, {{"loss": 1.0}})
child = os.fork()
if child == 0:
    writer.append_point(666, 0, {{"loss": 1.0}})
    os._exit(0)
os.waitpid(child, 0)
assert has_writer(path)
writer.append_point(2, 0, {{"loss": 1.0}})
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)
    assert [step for step, _ in points(tmp_path / "run.log")] == [1, 2]
