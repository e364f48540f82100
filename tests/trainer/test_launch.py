"""One model over two real processes (gloo), beside one process at the same global batch."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import forge_notebook as forge
from forge_notebook.trainer.checkpoint import load
from forge_notebook.trainer.cognate import CognateTrainer
from forge_notebook.trainer.config import ConfigError

from .fake_session import stop_from

CONFIG = {
    "model_count": 1, "batch_size": 4, "seq_len": 16, "max_steps": 24, "eval_interval": 8,
    "checkpoint_interval": 8, "progress_update_interval": 1, "threads": 1,
}  # fmt: skip


def curve(session_id: str, store: Path, name: str) -> list[float]:
    frame = forge.load(session_id, store=store).to_pandas()
    found: list[float] = frame[frame[name].notna()][name].tolist()
    return found


def final(store: Path, session_id: str) -> dict[str, Any]:
    (newest,) = (store / session_id).glob("checkpoints/model-0/step-000000024.zip")
    return load(newest)


@pytest.mark.timeout(400)  # a process loads torch for a minute where others keep both cores busy
@pytest.mark.parametrize("distributed", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_processes_give_the_curve_of_one(tmp_path: Path, distributed: Any) -> None:
    one = CognateTrainer(CONFIG, store=tmp_path).fit().session.id
    trainer = CognateTrainer(CONFIG, store=tmp_path)
    launched = trainer.launch(processes=2, distributed=distributed)
    assert launched.wait(200) == "completed"
    for name in ("loss", "val_loss", "grad_norm", "surprise"):
        ours, theirs = (curve(i, tmp_path, name) for i in (launched.session_id, one))
        assert ours == pytest.approx(theirs, rel=2e-2), name
    assert forge.load(launched.session_id, store=tmp_path).metrics is not None


@pytest.mark.timeout(400)
def test_what_one_process_began_goes_on_in_shards(tmp_path: Path) -> None:
    config = {**CONFIG, "optimizer": "adamw", "grokfast": True, "grokfast_lambda": 0.1}
    undisturbed = CognateTrainer(config, store=tmp_path).fit().session.id
    began = CognateTrainer(config, store=tmp_path)
    stop_from(began, 9)
    assert began.fit().status == "stopped"
    session_id = began.session.id
    trainer = CognateTrainer(resume=session_id, store=tmp_path)
    launched = trainer.launch(processes=2, distributed="fsdp")
    assert launched.session_id == session_id
    assert launched.wait(200) == "completed"
    for name in ("loss", "val_loss", "grad_norm"):
        ours, theirs = (curve(i, tmp_path, name) for i in (session_id, undisturbed))
        assert ours == pytest.approx(theirs, rel=1e-4), name
    after, expected = (final(tmp_path, i) for i in (session_id, undisturbed))
    for part in ("model", "optimizers"):
        assert_same(after[part], expected[part])


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, torch.Tensor):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    elif isinstance(theirs, dict):
        assert set(ours) == set(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert ours == theirs


@pytest.mark.slow  # torchrun restarts the worker in seconds, or, seen once, not within a minute
@pytest.mark.timeout(400)
@pytest.mark.parametrize("distributed", ["ddp", "fsdp"])
def test_killed_process_is_started_again_from_the_checkpoint(
    tmp_path: Path, distributed: Any
) -> None:
    config: dict[str, Any] = {**CONFIG, "max_steps": 3000, "epochs": 10_000, "batch_size": 2}
    config |= {"eval_interval": 3000, "progress_update_interval": 20}
    trainer = CognateTrainer(config, store=tmp_path)
    launched = trainer.launch(processes=2, max_restarts=1, distributed=distributed)
    checkpoints = tmp_path / launched.session_id / "checkpoints" / "model-0"
    deadline = time.monotonic() + 150
    # Of no certain step: only the newest three are kept, and that one may be gone when we look.
    while not any(file.stem > "step-000000010" for file in checkpoints.glob("step-*.zip")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    history = forge.load(launched.session_id, store=tmp_path)
    os.kill(history.status["pid"], signal.SIGKILL)
    while forge.load(launched.session_id, store=tmp_path).status["pid"] == history.status["pid"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    launched.send_command("stop")
    assert launched.wait(120) == "stopped"
    marks = [
        mark["event"] for mark in forge.load(launched.session_id, store=tmp_path).status["marks"]
    ]
    assert "resumed" in marks
    frame = forge.load(launched.session_id, store=tmp_path).to_pandas()
    alone = CognateTrainer(resume=launched.session_id, store=tmp_path)
    stop_from(alone, int(frame.step.max()) // 20 * 20 + 40)
    assert alone.fit().status == "stopped"
    after = forge.load(launched.session_id, store=tmp_path).to_pandas().iloc[len(frame) :]
    assert after.step.min() > frame.step.max()
    assert after.loss.mean() == pytest.approx(frame.loss[frame.loss.notna()].iloc[-1], rel=0.3)


def test_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    trainer = CognateTrainer({**CONFIG, "batch_size": 5}, store=tmp_path)
    with pytest.raises(ConfigError, match="give a multiple of 2"):
        trainer.launch(processes=2)
    trainer = CognateTrainer({**CONFIG, "batch_size": None, "task": "modular"}, store=tmp_path)
    with pytest.raises(ConfigError, match="batch_size=None is not possible with 3 processes"):
        trainer.launch(processes=3)
    with pytest.raises(ConfigError, match="what the configuration names"):
        CognateTrainer(CONFIG, store=tmp_path, data="text " * 1000).launch()


def test_way_of_sharing_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name)  # a compiler
    with pytest.raises(ConfigError, match=r"distributed='zero' .* one of 'ddp', 'fsdp'"):
        CognateTrainer(CONFIG, store=tmp_path).launch(distributed="zero")  # type: ignore[arg-type]
    trainer = CognateTrainer({**CONFIG, "compile": True}, store=tmp_path)
    with pytest.raises(ConfigError, match=r"compile=True .* distributed='fsdp': use 'ddp'"):
        trainer.launch(distributed="fsdp")
    assert not list(tmp_path.iterdir())
