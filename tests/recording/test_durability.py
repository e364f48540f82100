"""The training against what happens to disks, clocks and processes. Nothing here is a fake disk:
limits, mounts, kills and forks are the system's own."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import forge_notebook as forge
from forge_notebook.core.follower import Follower
from forge_notebook.core.runlog import EVENT, POINTS, Reader, read_log
from forge_notebook.recording import Session
from forge_notebook.recording.session import UPKEEP_S

ROOT = Path(__file__).parents[2]


def run(code: str, *arguments: str, timeout: float = 100) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def steps(log: Path) -> list[int]:
    return [record.data.step for record in read_log(log) if record.kind == POINTS]


@pytest.mark.slow
def test_no_acknowledged_record_is_lost_in_two_hundred_kills(tmp_path: Path) -> None:
    code = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from forge_notebook.bench.durability import kill_many
print(json.dumps(asdict(kill_many(Path(sys.argv[1]), 200, seed=int(sys.argv[2])))))
"""
    outcome = json.loads(run(code, str(tmp_path), str(time.time_ns())))
    assert outcome["kills"] == 200
    assert outcome["acknowledged"] > 10_000
    assert outcome["lost"] == outcome["wrong"] == 0


FULL = """
import resource, sys
import forge_notebook as forge
session = forge.session("s", store=sys.argv[1])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
for step in range(200):
    session.log(step, loss=1.0, lr=0.1)
session.event("checkpoint_saved", path="while full")
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
for step in range(200, 300):
    session.log(step, loss=1.0, lr=0.1)
session.finish()
print(session.id)
"""


def test_a_file_that_may_not_grow_costs_counted_rows_only(tmp_path: Path) -> None:
    log = tmp_path / run(FULL, str(tmp_path)).strip() / "run.log"
    reader = Reader(log)
    records = reader.read()
    kept = [r.data.step for r in records if r.kind == POINTS]
    before = next(step for step in range(200) if step not in kept)
    assert 20 < before < 150
    assert kept == [*range(before), *range(200, 300)]
    assert reader.lost == 200 - before
    events = [r.data["event"] for r in records if r.kind != POINTS and "event" in r.data]
    assert events == ["training_started", "checkpoint_saved", "training_completed"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)):
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    while os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def mount(*options: str) -> bool:
    command = ["mount", *options]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


def test_a_full_file_system_and_room_again(disk: Path) -> None:
    (disk / "ballast").write_bytes(bytes(32 << 10))
    session = forge.session("s", store=disk)
    for step in range(3000):
        session.log(step, loss=1.0)
    (disk / "ballast").unlink()
    for step in range(3000, 3100):
        session.log(step, loss=1.0)
    session.finish()
    history = forge.load(session.id, store=disk)
    kept = steps(session.folder / "run.log")
    assert kept[-100:] == list(range(3000, 3100))
    assert history.status["status"] == "completed"
    assert history.status["lost"] == 3100 - len(kept) > 1000


def wait_for(what: Any) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_store_that_cannot_be_written_at_first_is_used_once_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    store.write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        session = forge.session("s", store=store, config={"lr": 1})
        for step in range(10):
            session.log(step, loss=1.0)
        store.unlink()
        wait_for((session.folder / "run.log").exists)
        wait_for(lambda: session._writer.error is None)
        for step in range(10, 20):
            session.log(step, loss=1.0)
    session.finish()
    assert caplog.text.count("cannot record") == 1
    assert "recording again; 10 rows were lost" in caplog.text
    assert steps(session.folder / "run.log") == list(range(10, 20))
    status = forge.load(session.id, store=store).status
    assert (status["lost"], status["config"], status["status"]) == (10, {"lr": 1}, "completed")


def test_a_store_that_becomes_read_only_under_a_running_session_and_writable_again(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel refuses to make a mount read-only while a log on it is open, so the store gives
    way to another mount that is, as one that a server lost and mounted again."""
    session = forge.session("s", store=disk, config={"lr": 1})
    session.log(0, loss=1.0)
    assert not mount("-o", "remount,ro", str(disk))
    assert mount("-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(disk))
    wait_for(lambda: session._writer.error is not None)
    for step in range(1, 30):
        session.log(step, loss=1.0)
    session.event("checkpoint_saved", path="while read-only")
    time.sleep(2 * UPKEEP_S)
    assert caplog.text.count("cannot record") == 1
    assert "Read-only file system" in caplog.text
    assert mount("-o", "remount,rw", str(disk))
    wait_for(lambda: session._writer.error is None)
    for step in range(30, 40):
        session.log(step, loss=1.0)
    session.finish()
    assert "recording again; 29 rows were lost" in caplog.text
    assert steps(session.folder / "run.log") == list(range(30, 40))
    status = forge.load(session.id, store=disk).status
    assert (status["config"], status["status"]) == ({"lr": 1}, "completed")
    assert status["startTime"] is not None
    assert status["lost"] >= 29 + 1  # and what stands in the log that went away
    events = [r.data.get("event") for r in read_log(session.folder / "run.log") if r.kind == EVENT]
    assert events == ["checkpoint_saved", "training_completed"]


def test_a_log_that_becomes_read_only_costs_the_rows_of_that_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = forge.session("s", store=tmp_path)
    log = session.folder / "run.log"
    session.log(0, loss=1.0)
    with read_only(log):
        for step in range(1, 30):
            session.log(step, loss=1.0)
        session.event("checkpoint_saved", path="while read-only")
    for step in range(30, 40):
        session.log(step, loss=1.0)
    session.finish()
    assert caplog.text.count("cannot record") == 1
    assert "recording again; 29 rows were lost" in caplog.text
    assert steps(log) == [0, *range(30, 40)]
    status = forge.load(session.id, store=tmp_path).status
    assert (status["lost"], status["status"]) == (29, "completed")


@contextmanager
def read_only(file: Path) -> Iterator[None]:
    """Also for root, and for who has it open: not on every file system, and so tried first."""
    probe = file.with_name("probe")
    with contextlib.suppress(FileNotFoundError), open(probe, "wb", buffering=0) as opened:
        change = subprocess.run(["chattr", "+i", str(probe)], capture_output=True)
        try:
            opened.write(b"x")
            pytest.skip("making an open file read-only needs root, chattr and ext4")
        except OSError:
            pass
        finally:
            if change.returncode == 0:
                subprocess.run(["chattr", "-i", str(probe)], check=True)
    subprocess.run(["chattr", "+i", str(file)], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(file)], check=True)


def test_a_store_removed_and_blocked_under_a_running_session(tmp_path: Path) -> None:
    store = tmp_path / "store"
    session = forge.session("s", store=store)
    for step in range(10):
        session.log(step, loss=1.0)
    session._next_upkeep = math.inf  # a round of its own could come between these lines
    (session.folder / "run.log").unlink()
    (session.folder).rmdir()
    session.folder.write_text("in the way")
    session._writer.keep_file()
    for step in range(10, 20):
        session.log(step, loss=1.0)
    session.folder.unlink()
    session._writer.keep_file()
    for step in range(20, 30):
        session.log(step, loss=1.0)
    session.finish()
    assert steps(session.folder / "run.log") == list(range(20, 30))
    status = forge.load(session.id, store=store).status
    assert status["lost"] >= 20
    assert status["name"] == "s"  # a new log says again what it is of


def test_a_clock_set_back_makes_no_negative_time_and_keeps_the_order(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_700_000_000_000_000_000]

    def clock() -> int:
        now[0] += 10**9
        return now[0]

    monkeypatch.setattr(time, "time_ns", clock)
    session = forge.session("s", total_steps=100)
    for step in range(1, 61):
        if step == 30:
            now[0] -= 3600 * 10**9
        session.log(step, loss=1.0)
    metrics = session.metrics()
    assert metrics is not None
    assert metrics["trainingTime"] is not None
    assert metrics["trainingTime"] >= 28
    assert metrics["estimatedTimeRemaining"] is None or metrics["estimatedTimeRemaining"] >= 0
    session.finish()
    assert steps(session.folder / "run.log") == list(range(1, 61))
    follower = Follower(session.folder)
    follower.load()
    for x in ("step", "time"):
        blocks = follower.curves.overview(1000, x=x)
        assert [len(b["seq"]) for b in blocks] == [60]


WORKERS = """
import sys
import torch
from torch.utils.data import DataLoader, Dataset
import forge_notebook as forge
session = forge.session("s", store=sys.argv[1])
class Data(Dataset):
    def __len__(self):
        return 40
    def __getitem__(self, index):
        session.log(1000 + index, loss=666.0)  # the parent's session in a forked worker
        return torch.tensor(float(index))
for step in range(40):
    session.log(step, loss=1.0)
for epoch in range(2):
    for batch in DataLoader(Data(), batch_size=4, num_workers=2, multiprocessing_context="fork"):
        session.log(40 + 10 * epoch + int(batch[0]) // 4, loss=float(batch.mean()))
session.finish()
print(session.id)
"""


def test_dataloader_workers_neither_write_nor_break_the_log(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-c", WORKERS, str(tmp_path)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "forked process" in done.stderr  # said, once a worker
    log = tmp_path / done.stdout.strip() / "run.log"
    reader = Reader(log)
    found = [r.data.step for r in reader.read() if r.kind == POINTS]
    assert found == list(range(60))
    assert reader.lost == 0


def test_a_log_cut_at_any_byte_can_be_resumed(tmp_path: Path) -> None:
    session = forge.session("s", store=tmp_path)
    for step in range(20):
        session.log(step, loss=float(step))
    session.finish()
    log = session.folder / "run.log"
    data = log.read_bytes()
    for length in range(0, len(data), 17):
        log.write_bytes(data[:length])
        whole = steps(log)
        again = Session("s", store=tmp_path, resume=session.id)
        again.log(99, loss=1.0)
        again.finish()
        assert steps(log) == [*whole, 99]
