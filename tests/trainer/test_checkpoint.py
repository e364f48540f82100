import math
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from forge_notebook.trainer import checkpoint
from forge_notebook.trainer.archive import snapshot
from forge_notebook.trainer.checkpoint import CheckpointError, Checkpoints, load, write_atomically
from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.data import load_data
from forge_notebook.trainer.hooks import CallbackHook
from forge_notebook.trainer.metrics import cross_entropy
from forge_notebook.trainer.run import ModelRun

from .fake_session import FakeSession


def state(step: int = 1) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    return {"step": step, "model": {"weight": torch.randn(64, 64, generator=generator)}}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "model-0")


def flip(path: Path, position: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def test_flipped_bit_in_the_weights_is_always_noticed(checkpoints: Checkpoints) -> None:
    path = checkpoints.save(1, state()).path
    data = path.read_bytes()
    weights = state()["model"]["weight"].numpy().tobytes()
    begin = data.index(weights)
    chance = random.Random(0)
    for _ in range(40):
        flip(path, begin + chance.randrange(len(weights)), chance.randrange(8))
        with pytest.raises(CheckpointError):
            load(path)
        path.write_bytes(data)
    assert torch.equal(load(path)["model"]["weight"], state()["model"]["weight"])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated_file_is_noticed(checkpoints: Checkpoints, share: float) -> None:
    path = checkpoints.save(1, state()).path
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError):
        load(path)


def test_damaged_newest_is_set_aside_and_the_one_before_is_used(checkpoints: Checkpoints) -> None:
    checkpoints.save(1, state(1))
    newest = checkpoints.save(2, state(2)).path
    flip(newest, newest.stat().st_size // 2, 3)
    found = checkpoints.load_newest()
    assert found is not None
    assert found["step"] == 1
    assert [path.name for path in checkpoints.paths()] == ["step-000000001.zip"]
    assert newest.with_suffix(".damaged").exists()


def test_newest_three_are_kept(checkpoints: Checkpoints) -> None:
    for step in (9, 10, 100, 1000):
        checkpoints.save(step, state(step))
    assert [int(path.stem.split("-")[1]) for path in checkpoints.paths()] == [1000, 100, 10]


def test_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "step.zip"
    write_atomically(path, b"old")

    def fail(handle: int) -> None:
        raise OSError("disk")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("grokfast", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_restored_run_repeats_the_steps_bit_for_bit(
    tmp_path: Path, optimizer: Any, grokfast: bool
) -> None:
    config = TrainingConfig.demo(
        "grok", preset="tiny", batch_size=64, optimizer=optimizer, grokfast=grokfast
    )

    def new() -> ModelRun:
        return ModelRun(config, load_data(config), FakeSession(tmp_path), CallbackHook(), 0)

    def advance(run: ModelRun, steps: int) -> torch.Tensor:
        for _ in range(steps):
            x, y = run.batch()
            torch.autograd.backward(cross_entropy(run.model(x).logits, y))
            run.optimizers.step(run.lr)
            run.optimizers.zero_grad()
            run.step += 1
            run.position += 1
        return torch.nn.utils.parameters_to_vector(run.model.parameters()).detach()

    run = new()
    advance(run, 5)
    assert run.save(wait=True) is not None
    expected = advance(run, 5)
    again = new()
    again.resume()
    assert again.step == 5
    assert torch.equal(advance(again, 5), expected)


def test_state_comes_back_as_it_was(checkpoints: Checkpoints) -> None:
    given = {
        "step": 7,
        "model": {"w": torch.randn(3, 2).T},
        "optimizers": {"state": {0: {"step": torch.tensor(3.0)}, 1: {}}, "betas": (0.9, 0.1 + 0.2)},
        "list": [None, True, math.inf, torch.arange(3, dtype=torch.uint8)],
    }
    path = checkpoints.save(7, snapshot(given)).path
    found = load(path)
    assert torch.equal(found["model"].pop("w"), given["model"].pop("w"))  # type: ignore[attr-defined]
    assert torch.equal(found["list"].pop(), given["list"].pop())  # type: ignore[attr-defined]
    assert repr(found["optimizers"]) == repr(given["optimizers"])
    assert found["list"] == given["list"]


def test_weights_are_plain_safetensors_and_nothing_is_pickled(checkpoints: Checkpoints) -> None:
    path = checkpoints.save(1, state()).path
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == [
            "model.safetensors",
            "rest.safetensors",
            "state.json",
        ]
        weights = safetensors.torch.load(archive.read("model.safetensors"))
    assert torch.equal(weights["weight"], state()["model"]["weight"])
    torch.save(state(), path)
    with pytest.raises(CheckpointError):
        load(path)


def test_snapshot_is_not_moved_by_later_steps(checkpoints: Checkpoints) -> None:
    weight = torch.ones(4)
    saving = checkpoints.save_soon(1, {"model": {"weight": weight}})
    weight.zero_()
    assert torch.equal(load(saving.result().path)["model"]["weight"], torch.ones(4))


def test_best_is_kept_when_newer_ones_push_it_out(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, state(1), best=True)
    checkpoints.save(2, state(2))
    assert [path.name for path in checkpoints.paths()] == ["step-000000002.zip"]
    assert load(tmp_path / "best.zip")["step"] == 1


def small_disk(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Writes fail with ENOSPC once the folder of a file holds more than `size` bytes."""
    write = checkpoint.write_atomically

    def limited(path: Path, data: bytes) -> None:
        used = sum(file.stat().st_size for file in path.parent.iterdir())
        if used + len(data) > size:
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_atomically", limited)


def test_full_disk_costs_the_older_checkpoints(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_disk(monkeypatch, 40_000)  # one takes 17 kB
    remedies = [checkpoints.save(step, state(step)).remedy for step in (1, 2, 3)]
    assert remedies == ["", "", "the disk is full: older checkpoints deleted"]
    assert [path.name for path in checkpoints.paths()] == [
        "step-000000003.zip",
        "step-000000002.zip",
    ]


def test_fuller_disk_costs_the_time_to_compress(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_disk(monkeypatch, 19_000)
    zeros = {"model": {"weight": torch.zeros(64, 64)}}
    assert checkpoints.save(1, state(1)).remedy == ""
    assert "compressed" in checkpoints.save(2, zeros).remedy
    assert torch.equal(load(checkpoints.paths()[0])["model"]["weight"], torch.zeros(64, 64))
    small_disk(monkeypatch, 10_000)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(3, state(3))
    assert len(checkpoints.paths()) == 1
