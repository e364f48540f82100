"""Several processes of one training: who records, and that nothing is doubled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import forge_notebook as forge
from forge_notebook.core.catalog import Catalog
from forge_notebook.core.errors import SessionBusy
from forge_notebook.core.follower import Follower
from forge_notebook.core.runlog import EVENT, POINTS, SESSION, Reader, read_log

TRAIN = """
import os, sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
import forge_notebook as forge
torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
every = sys.argv[1] == "every"
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
with forge.session("ddp", total_steps=50, **({"rank": rank} if every else {})) as session:
    for step in range(1, 51):
        loss = model(torch.randn(8, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        session.log(step, loss=loss.item(), rank_step=step + 1000 * rank)
    session.event("checkpoint_saved", path=f"{rank}.pt")
    dist.barrier()
dist.destroy_process_group()
"""


def torchrun(tmp_path: Path, mode: str) -> Path:
    pytest.importorskip("torch")
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script), mode], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    store = Path(os.environ["FORGE_STORE"])
    (session_id,) = Catalog(store).ids()
    return store / session_id / "run.log"


def test_under_torchrun_rank_0_records_and_nothing_is_doubled(tmp_path: Path) -> None:
    log = torchrun(tmp_path, "default")
    records = list(read_log(log))
    rows = [r.data for r in records if r.kind == POINTS]
    assert [row.step for row in rows] == list(range(1, 51))
    assert [row.values[1] for row in rows] == list(range(1, 51))
    assert [r.data["event"] for r in records if r.kind == EVENT] == [
        "training_started", "checkpoint_saved", "training_completed",
    ]  # fmt: skip


def test_under_torchrun_every_rank_may_record_into_one_session(tmp_path: Path) -> None:
    log = torchrun(tmp_path, "every")
    reader = Reader(log)
    records = reader.read()
    assert reader.lost == 0
    assert [r.seq for r in records] == sorted({r.seq for r in records})
    assert [r.kind for r in records].count(SESSION) == 1
    mine = [r.data for r in records if r.kind == POINTS and r.data.names[0] == "loss"]
    other = [r.data for r in records if r.kind == POINTS and r.data.names[0] != "loss"]
    assert [row.step for row in mine] == [row.step for row in other] == list(range(1, 51))
    assert {row.names for row in other} == {("loss (rank 1)", "rank_step (rank 1)")}
    assert [row.values[1] for row in other] == list(range(1001, 1051))
    events = [(r.data["event"], r.data["data"].get("rank")) for r in records if r.kind == EVENT]
    assert sorted(events, key=str) == [
        ("checkpoint_saved", 1),
        ("checkpoint_saved", None),
        ("training_completed", None),
        ("training_started", None),
    ]
    follower = Follower(log.parent)
    follower.load()
    status = follower.status()
    assert status["status"] == "completed"
    assert status["metricNames"][:1] == ["loss"] or "loss" in status["metricNames"]


RANK = """
import sys
import forge_notebook as forge
rank = int(sys.argv[1])
session = forge.session("r", rank=rank, session_id="many", store=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for step in range(2000):
    session.log(step, loss=float(step), own=float(rank))
session.finish()
"""


def test_many_ranks_at_full_speed_do_not_disturb_each_other(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(4)
    ]  # fmt: skip
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    log = tmp_path / "many" / "run.log"
    one, other = Reader(log), Reader(log)
    whole = one.read()
    parts = [record for _ in range(1500) for record in other.read(limit=7)]
    assert parts == whole  # the same numbers, however it is read
    assert one.lost == 0
    for rank in range(4):
        steps = [r.data.step for r in whole if r.kind == POINTS and r.data.values[1] == rank]
        assert steps == list(range(2000))


def test_a_rank_is_one_process_and_rank_0_says_whether_the_session_lives(store: Path) -> None:
    zero = forge.session("s", rank=0, session_id="one")
    first = forge.session("s", rank=1, session_id="one")
    with pytest.raises(SessionBusy):
        forge.session("s", rank=1, session_id="one")
    first.log(1, loss=1.0)
    first.finish()
    again = forge.session("s", rank=1, session_id="one")
    again.log(2, loss=1.0)
    assert [r.data.step for r in read_log(zero.folder / "run.log") if r.kind == POINTS] == [1, 2]
    (status,) = Catalog(store).sessions()
    assert status["status"] == "created"
    zero.finish()
    (status,) = Catalog(store).sessions()
    assert status["status"] == "completed"


def test_only_rank_0_gets_commands(store: Path) -> None:
    zero = forge.session("s", rank=0, session_id="one")
    first = forge.session("s", rank=1, session_id="one")
    zero.log(1, loss=1.0)
    first.log(1, loss=1.0)
    zero.send_command("stop")
    for session in (zero, first):
        session.pump()
    assert zero.should_stop
    assert not first.should_stop
    acks = [r for r in read_log(zero.folder / "run.log") if r.kind == EVENT]
    assert [r.data["event"] for r in acks].count("command_ack") == 1


def test_a_rank_that_does_not_record_takes_every_call(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with forge.session("s", models=2) as session:
        for step in range(100):
            session.log(step, loss=1.0)
        session.model_started(0, name="a")
        session.event("checkpoint_saved", path="x")
        session.model_completed(0)
        assert session.metrics() is None
        assert not session.should_stop
    assert not store.exists() or list(store.iterdir()) == []


def test_a_rank_without_a_launcher_needs_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ValueError, match="session_id="):
        forge.session("s", rank=0)
    with pytest.raises(ValueError, match="rank=-1"):
        forge.session("s", rank=-1, session_id="x")
