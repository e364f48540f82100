"""bf16, torch.compile and memory: what they change, and what they say where they are not there."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from forge_notebook.trainer import device as device_module
from forge_notebook.trainer.config import ConfigError, TrainingConfig
from forge_notebook.trainer.device import device_of, forward_of, memory_in_use
from forge_notebook.trainer.model import Cognate, Shape, initialize

from .fake_session import Make, weights

Patch = pytest.MonkeyPatch
CPU = torch.device("cpu")
SHAPE = Shape(50, 16, 32, 4, 64, 2, core_steps=2, memory=True)
TEXT = {
    "task": "text", "preset": "tiny", "batch_size": 4, "seq_len": 16, "max_steps": 6,
    "learning_rate": 0.003, "weight_decay": None,
}  # fmt: skip


def model_and_tokens(shape: Shape = SHAPE) -> tuple[Cognate, torch.Tensor]:
    with torch.device("meta"):
        model = Cognate(shape)
    initialize(model, 1)
    return model, torch.arange(64).view(4, 16) % 50


@pytest.mark.parametrize("slots", [0, 64])
def test_bf16_rounds_the_products_and_keeps_the_rest_in_fp32(slots: int) -> None:
    dtypes, outputs = [], []
    for precision in ("fp32", "bf16"):  # a model each: the memory of slots is written by a forward
        model, x = model_and_tokens(Shape(**{**vars(SHAPE), "slots": slots}))
        product = model.get_submodule("blocks.0.qkv")
        product.register_forward_hook(lambda m, i, out: dtypes.append(out.dtype))
        forward = forward_of(model, TrainingConfig.from_dict({"precision": precision}))
        forward(x)  # the slots are filled
        dtypes.clear() if precision == "fp32" else dtypes.pop()
        outputs.append(forward(x))
    exact, rounded = outputs
    assert dtypes == [torch.float32, torch.bfloat16]
    assert rounded.logits.dtype == torch.float32
    # The mean: rounding may choose another slot or halt elsewhere, at a few positions.
    difference = (rounded.logits - exact.logits).abs().mean() / exact.logits.abs().mean()
    assert 0 < difference < 0.05
    rounded.logits.square().mean().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())


def test_training_in_bf16_is_near_that_in_fp32(make: Make) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        trainer, session = make(**TEXT, precision=precision)
        trainer.fit()
        losses.append([loss for _, loss in session.series("loss")])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.slow  # compiling takes a minute on a busy machine
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("default")  # torch's own
def test_compiled_training_gives_the_curve_of_the_plain_one(
    make: Make, tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    trainers: list[Any] = []
    for compiled in (False, True):
        try:
            # One block: a text model takes more than five minutes on two busy cores.
            trainer, _ = make(preset="tiny", batch_size=64, max_steps=6, compile=compiled)
        except ConfigError as error:
            pytest.skip(str(error))
        trainers.append(trainer.fit())
    assert list(tmp_path.rglob("*.so"))  # it was compiled
    assert torch.allclose(weights(trainers[0]), weights(trainers[1]), atol=2e-3)


def test_what_is_not_there_is_refused_before_there_is_a_session(
    make: Make, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device='cuda' is not possible: torch finds no GPU"):
        make(device="cuda")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"compile=True is not possible.* C\+\+"):
        make(compile=True)


def test_gpu_without_bf16_is_refused(monkeypatch: Patch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an old card")
    with pytest.raises(ConfigError, match="an old card has none; use 'fp32'"):
        device_of(TrainingConfig(device="cuda", precision="bf16"))


def test_memory_is_that_of_this_process_or_missing(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(device_module, "STATM", tmp_path / "statm")
    assert memory_in_use(CPU) == {}
    (tmp_path / "statm").write_text("90000 1000 500 1 0 800 0\n")
    monkeypatch.setattr(os, "sysconf", lambda name: 4096)
    assert memory_in_use(CPU) == {"memory_mb": 4.096}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells it in /proc")
def test_memory_grows_with_what_is_held() -> None:
    before = memory_in_use(CPU)["memory_mb"]
    held = torch.ones(50_000_000 // 4)
    grown = memory_in_use(CPU)["memory_mb"] - before
    assert 40 < grown < 80, held.shape
