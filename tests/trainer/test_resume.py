"""A training killed at any moment and resumed ends with the weights of one never stopped."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import forge_notebook as forge
from forge_notebook.core.errors import UnknownSession
from forge_notebook.trainer.checkpoint import CheckpointError
from forge_notebook.trainer.cognate import CognateTrainer
from forge_notebook.trainer.config import ConfigError

from .fake_session import stop_from, weights

ONEHOT = {
    "task": "modular", "preset": "onehot", "model_count": 2, "batch_size": 512,
    "learning_rate": 0.03, "max_steps": 120, "eval_interval": 10, "checkpoint_interval": 7,
    "threads": 1,
}  # fmt: skip
TEXT = {
    "model_count": 1, "batch_size": 2, "seq_len": 16, "max_steps": 30, "eval_interval": 10,
    "checkpoint_interval": 4, "threads": 1, "grokfast": True,
}  # fmt: skip
KILLS = {"onehot": (ONEHOT, 16), "text": (TEXT, 8)}

# Trains or resumes in forked children, so that torch is loaded once for all of them.
KILLER = """
import json, os, random, signal, sys, time, traceback
from pathlib import Path
import torch
import forge_notebook as forge

config, kills, store = json.loads(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
chance = random.Random(1)

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid

def finish(trainer):
    trainer.fit()
    flat = torch.cat([p.detach().flatten() for m in trainer.models for p in m.parameters()])
    torch.save(flat, store / (trainer.session.name + ".pt"))

began = time.perf_counter()
os.waitpid(child(lambda: finish(forge.CognateTrainer(config, name="whole", store=store))), 0)
seconds = time.perf_counter() - began
killed = 0
for run in range(5 * kills):
    name = f"run-{run}"
    pid = child(lambda: finish(forge.CognateTrainer(config, name=name, store=store)))
    deadline = time.perf_counter() + 30
    while not (found := list(store.glob("*/run.log"))) or not any(
        json.dumps(name).encode() in log.read_bytes() for log in found
    ):
        assert time.perf_counter() < deadline
        time.sleep(0.001)
    delay = chance.random() * seconds
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    (log,) = [log for log in found if json.dumps(name).encode() in log.read_bytes()]
    if forge.load(log.parent.name, store=store).status["status"] == "completed":
        seconds = min(seconds, delay)  # it was faster than the first: nothing to resume
        continue
    assert os.WIFSIGNALED(status), name
    killed += 1
    pid = child(lambda: finish(forge.CognateTrainer(resume=log.parent.name, store=store)))
    assert os.waitpid(pid, 0)[1] == 0, name
    print(json.dumps([name, log.parent.name]), flush=True)
    if killed == kills:
        break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forked")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", KILLS)
def test_killed_at_any_moment_and_resumed_ends_bit_for_bit_the_same(
    model: str, tmp_path: Path
) -> None:
    config, kills = KILLS[model]
    command = [sys.executable, "-c", KILLER, json.dumps(config), str(kills), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(runs) == kills
    expected = torch.load(tmp_path / "whole.pt")
    for name, session_id in runs:
        assert torch.equal(torch.load(tmp_path / f"{name}.pt"), expected), name
        history = forge.load(session_id, store=tmp_path)
        assert history.status["status"] == "completed"
        assert history.metrics is not None
        assert history.metrics["overallProgress"] == 100


def broken_at(step: int, config: dict[str, Any], store: Path) -> str:
    """A session whose training failed at a step; returns its id."""
    trainer = CognateTrainer(config, store=store)
    stop_from(trainer, step)
    assert trainer.fit().status == "stopped"
    return trainer.session.id


def test_resumed_session_continues_the_curve_in_the_same_session(tmp_path: Path) -> None:
    session_id = broken_at(40, {**ONEHOT, "model_count": 1}, tmp_path)
    trainer = CognateTrainer(resume=session_id, store=tmp_path)
    assert trainer.fit().status == "completed"
    assert trainer.session.id == session_id
    frame = forge.load(session_id, store=tmp_path).to_pandas()
    steps = frame[frame.loss.notna()].step.tolist()
    assert steps == [1, *range(10, 121, 10)]  # stopped with a checkpoint: nothing twice
    never = CognateTrainer({**ONEHOT, "model_count": 1}, store=tmp_path).fit()
    assert torch.equal(weights(trainer), weights(never))


def test_what_cannot_be_resumed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownSession, match="no session 'no-such-session'"):
        CognateTrainer(resume="no-such-session", store=tmp_path)
    with pytest.raises(ConfigError, match="exclude each other"):
        CognateTrainer({}, resume="x")
    done = CognateTrainer({**ONEHOT, "max_steps": 5}, store=tmp_path).fit()
    with pytest.raises(ConfigError, match="is completed"):
        CognateTrainer(resume=done.session.id, store=tmp_path)
    other = forge.session("not ours", store=tmp_path)
    with pytest.raises(ConfigError, match="still training"):
        CognateTrainer(resume=other.id, store=tmp_path)
    other.finish("stopped")
    with pytest.raises(ConfigError, match="no session of CognateTrainer"):
        CognateTrainer(resume=other.id, store=tmp_path)


def test_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    session_id = broken_at(10, TEXT, tmp_path)
    trainer = CognateTrainer(resume=session_id, store=tmp_path, data="another text " * 400)
    with pytest.raises(CheckpointError, match="its checkpoint has data text-16-"):
        trainer.fit()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_sigterm_saves_and_stops_in_time(tmp_path: Path) -> None:
    code = (
        "import forge_notebook as forge, sys;"
        f"c = { ({**ONEHOT, 'max_steps': 1_000_000, 'epochs': 1_000_000})!r};"
        "t = forge.CognateTrainer(c, store=sys.argv[1]);"
        "print(t.session.id, flush=True);"
        "t.set_progress_callback(lambda m: m['currentStep'] == 50 and print('on', flush=True));"
        "t.fit()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    session_id = process.stdout.readline().strip()
    assert process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM
    process.stdout.close()
    history = forge.load(session_id, store=tmp_path)
    assert history.status["status"] == "stopped"
    assert history.status["marks"][-2]["event"] == "checkpoint_saved"
