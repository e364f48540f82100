"""One model over two real processes (gloo), beside one process at the same global batch."""

import os
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

CONFIG = {
    "model_count": 1, "batch_size": 4, "seq_len": 16, "max_steps": 24, "eval_interval": 8,
    "checkpoint_interval": 8, "progress_update_interval": 1, "threads": 1,
}  # fmt: skip


def curve(session_id: str, store: Path, name: str) -> list[float]:
    frame = forge.load(session_id, store=store).to_pandas()
    found: list[float] = frame[frame[name].notna()][name].tolist()
    return found


def final(store: Path, session_id: str) -> dict[str, torch.Tensor]:
    (newest,) = (store / session_id).glob("checkpoints/model-0/step-000000024.zip")
    model: dict[str, torch.Tensor] = load(newest)["model"]
    return model


def test_two_processes_give_the_curve_of_one(tmp_path: Path) -> None:
    one = CognateTrainer(CONFIG, store=tmp_path).fit().session.id
    launched = CognateTrainer(CONFIG, store=tmp_path).launch(processes=2)
    assert launched.wait(100) == "completed"
    for name in ("loss", "val_loss", "grad_norm", "surprise"):
        ours, theirs = (curve(i, tmp_path, name) for i in (launched.session_id, one))
        assert ours == pytest.approx(theirs, rel=2e-2), name
    assert forge.load(launched.session_id, store=tmp_path).metrics is not None


@pytest.mark.slow  # torchrun restarts the worker in seconds, or, seen once, not within a minute
def test_killed_process_is_started_again_from_the_checkpoint(tmp_path: Path) -> None:
    config: dict[str, Any] = {**CONFIG, "max_steps": 3000, "epochs": 10_000, "batch_size": 2}
    config |= {"eval_interval": 3000, "progress_update_interval": 20}
    launched = CognateTrainer(config, store=tmp_path).launch(processes=2, max_restarts=1)
    folder = tmp_path / launched.session_id
    deadline = time.monotonic() + 60
    while not list(folder.glob("checkpoints/model-0/step-00000001*.zip")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    history = forge.load(launched.session_id, store=tmp_path)
    os.kill(history.status["pid"], signal.SIGKILL)
    while forge.load(launched.session_id, store=tmp_path).status["pid"] == history.status["pid"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    launched.send_command("stop")
    assert launched.wait(60) == "stopped"
    marks = [
        mark["event"] for mark in forge.load(launched.session_id, store=tmp_path).status["marks"]
    ]
    assert "resumed" in marks


def test_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    trainer = CognateTrainer({**CONFIG, "batch_size": 5}, store=tmp_path)
    with pytest.raises(ConfigError, match="give a multiple of 2"):
        trainer.launch(processes=2)
    with pytest.raises(ConfigError, match="what the configuration names"):
        CognateTrainer(CONFIG, store=tmp_path, data="text " * 1000).launch()
