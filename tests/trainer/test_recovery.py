"""Faults injected into real training: each is mended, recorded, bounded, and training goes on."""

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from forge_notebook.trainer import checkpoint
from forge_notebook.trainer.data import ModularData
from forge_notebook.trainer.model import Cognate, OneHotNet, Output
from forge_notebook.trainer.recovery import TrainingDiverged

from .fake_session import Make, weights

Forward = Callable[..., Output]
Patch = pytest.MonkeyPatch
COGNATE = {"preset": "tiny", "learning_rate": 0.01, "epochs": 6, "batch_size": 64, "max_steps": 6}


def distance(first: Any, second: Any) -> float:
    """Relative distance of the weights of two trainers."""
    return float((weights(first) - weights(second)).norm() / weights(first).norm())


@pytest.fixture
def double() -> Iterator[None]:
    """Numbers of 64 bits: Adam divides by gradients near 0, and in 32 bits rounding alone, which
    differs from one processor to the next, moves weights by 1e-3 of their norm."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def memory_for(
    monkeypatch: Patch, examples: int, error: Exception, kind: Any = OneHotNet, thrifty: int = 0
) -> None:
    """Training forwards of more examples fail; `thrifty` is the limit with activations twice."""
    forward = kind.forward

    def limited(self: Any, tokens: torch.Tensor) -> Output:
        limit = thrifty if getattr(self, "thrifty", False) else examples
        if torch.is_grad_enabled() and len(tokens) > limit:
            raise error
        return forward(self, tokens)  # type: ignore[no-any-return]

    monkeypatch.setattr(kind, "forward", limited)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_out_of_memory_splits_the_batch_and_keeps_the_trajectory(
    make: Make, monkeypatch: Patch, error: Exception, parts: int, double: None
) -> None:
    whole, expected = make(epochs=20)
    whole.fit()
    memory_for(monkeypatch, math.ceil(1392 / parts), error)
    split, session = make(epochs=20)
    split.fit()
    (event,) = session.named("recovery")
    assert (event["kind"], event["parts"], event["step"]) == ("memory", parts, 0)
    assert type(error).__name__ in event["message"]
    assert distance(whole, split) < 1e-6
    for name in ("loss", "accuracy"):
        ours, theirs = session.series(name), expected.series(name)
        assert [v for _, v in ours] == pytest.approx([v for _, v in theirs], abs=1e-4)


def test_activations_are_computed_twice_when_parts_are_not_enough(
    make: Make, monkeypatch: Patch
) -> None:
    whole, _ = make(**COGNATE)
    whole.fit()
    memory_for(monkeypatch, 3, MemoryError(), Cognate, thrifty=8)
    thrifty, session = make(**COGNATE)
    thrifty.fit()
    (event,) = session.named("recovery")
    assert "8 parts, activations computed twice" in event["message"]
    assert distance(whole, thrifty) < 1e-3


@pytest.mark.parametrize("changes", [{"max_retries": 2}, {"enable_recovery": False}])
def test_what_never_fits_fails_with_its_own_error(
    make: Make, monkeypatch: Patch, changes: dict[str, Any]
) -> None:
    memory_for(monkeypatch, 0, torch.OutOfMemoryError("too big"))
    trainer, session = make(**changes)
    with pytest.raises(torch.OutOfMemoryError, match="too big"):
        trainer.fit()
    assert session.ended == ("failed", "OutOfMemoryError: too big")
    assert not session.named("recovery")


def bad_batches(monkeypatch: Patch, positions: set[int], error: Exception) -> None:
    batch = ModularData.batch

    def spoiled(self: ModularData, seed: int, position: int, size: int | None) -> Any:
        if position in positions:
            raise error
        return batch(self, seed, position, size)

    monkeypatch.setattr(ModularData, "batch", spoiled)


def test_bad_batch_is_skipped_and_counted(make: Make, monkeypatch: Patch) -> None:
    bad_batches(monkeypatch, {5, 9, 10}, UnicodeDecodeError("utf-8", b"", 0, 1, "bad"))
    trainer, session = make()
    trainer.fit()
    assert [event["kind"] for event in session.named("recovery")] == ["bad_batch"] * 3
    assert session.series("epoch")[-1][1] == 43
    assert session.ended == ("completed", None)


def test_bad_batches_in_a_row_reload_the_checkpoint_at_the_same_rate(
    make: Make, monkeypatch: Patch
) -> None:
    bad_batches(monkeypatch, {25, 26, 27}, ValueError("torn file"))
    trainer, session = make(checkpoint_interval=10)
    trainer.fit()
    kinds = [event["kind"] for event in session.named("recovery")]
    assert kinds == ["bad_batch"] * 3 + ["rollback"]
    assert session.series("lr")[-1][1] == 0.03
    assert session.ended == ("completed", None)


def test_data_that_stays_bad_fails_and_says_so(make: Make, monkeypatch: Patch) -> None:
    bad_batches(monkeypatch, set(range(25, 1000)), ValueError("torn file"))
    trainer, session = make(max_retries=2)
    with pytest.raises(TrainingDiverged, match="3 bad batches in a row, the last: ValueError"):
        trainer.fit()
    assert len([e for e in session.named("recovery") if e["kind"] == "rollback"]) == 2


def test_loss_that_jumps_and_stays_up_rolls_back(make: Make, monkeypatch: Patch) -> None:
    forward, count = OneHotNet.forward, 0

    def broken(self: OneHotNet, tokens: torch.Tensor) -> Output:
        nonlocal count
        count += torch.is_grad_enabled()
        if count == 100:
            with torch.no_grad():
                self.head.weight.mul_(-3)
        return forward(self, tokens)

    monkeypatch.setattr(OneHotNet, "forward", broken)
    trainer, session = make(epochs=150, checkpoint_interval=30, learning_rate=0.003)
    trainer.fit()
    (event,) = session.named("recovery")
    assert event["kind"] == "rollback"
    assert "of the steps before" in event["message"] or "chance" in event["message"]
    assert event["step"] == 90
    assert session.series("loss")[-1][1] < 1.5  # the jump alone is above 10
    assert session.ended == ("completed", None)


def test_without_a_whole_checkpoint_training_starts_over(make: Make, monkeypatch: Patch) -> None:
    def torn(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])

    monkeypatch.setattr(checkpoint, "write_atomically", torn)
    bad_batches(monkeypatch, {25, 26, 27}, ValueError("torn file"))
    trainer, session = make()
    trainer.fit()
    assert session.named("recovery")[-1]["step"] == 0
    assert session.series("epoch")[-1][1] == 28 + 40
    assert session.ended == ("completed", None)


FAULTS = ("memory", "nan", "data", "disk", "damage")


def inject(monkeypatch: Patch, chance: random.Random) -> str:
    """Break one thing at a random moment of the next run; returns what.

    Checkpoints are written by another thread, sooner or later: it draws nothing, and goes by the
    step of a file, so that the same runs meet the same faults on every machine.
    """
    fault, at = chance.choice(FAULTS), chance.randrange(1, 34)  # of 40: three bad steps may follow
    kept = chance.random()
    count = 0
    forward, write, batch = OneHotNet.forward, checkpoint.write_atomically, ModularData.batch

    def spoiled_forward(self: OneHotNet, tokens: torch.Tensor) -> Output:
        nonlocal count
        count += torch.is_grad_enabled()
        if fault == "memory" and torch.is_grad_enabled() and count >= at and len(tokens) > 100:
            raise torch.OutOfMemoryError
        output = forward(self, tokens)
        if fault == "nan" and at <= count < at + chance.randrange(1, 6):
            output.logits = output.logits * math.nan
        return output

    def spoiled_write(path: Path, data: bytes) -> None:
        late = int(path.stem.removeprefix("step-")) >= at
        if fault == "disk" and late:
            raise OSError(28, "No space left on device")
        write(path, data)
        if fault == "damage" and late:
            path.write_bytes(data[: int(kept * len(data))])

    def spoiled_batch(self: ModularData, seed: int, position: int, size: int | None) -> Any:
        if fault == "data" and at <= position < at + chance.randrange(1, 5):
            raise chance.choice([ValueError("torn"), OSError(5, "Input/output error")])
        found = batch(self, seed, position, size)
        if fault == "damage" and position == at + 3:  # what is damaged is needed now
            raise_nan(self)
        return found

    def raise_nan(data: ModularData) -> None:
        with torch.no_grad():
            for model in MODELS:
                model.head.weight.fill_(math.nan)

    init = OneHotNet.__init__

    def remember(self: OneHotNet, modulus: int, hidden: int) -> None:
        init(self, modulus, hidden)
        MODELS[:] = [self]

    monkeypatch.setattr(OneHotNet, "__init__", remember)
    monkeypatch.setattr(OneHotNet, "forward", spoiled_forward)
    monkeypatch.setattr(checkpoint, "write_atomically", spoiled_write)
    monkeypatch.setattr(ModularData, "batch", spoiled_batch)
    return fault


MODELS: list[OneHotNet] = []


def test_99_of_100_runs_with_faults_finish_with_real_weights(make: Make) -> None:
    chance = random.Random(7)
    finished, faults = 0, set()
    for _ in range(100):
        trainer, session = make(checkpoint_interval=5, seed=chance.randrange(1000), modulus=31)
        with pytest.MonkeyPatch.context() as patch:
            faults.add(inject(patch, chance))
            failed = ""
            try:
                trainer.fit()
            except Exception as error:
                failed = f"{type(error).__name__}: {error}"
        if failed:
            assert session.ended == ("failed", failed)
            continue
        assert session.named("recovery") or session.named("alert")
        rank = session.series("rank_train")[-1][1]
        finished += session.ended == ("completed", None) and rank > 0.9
    assert faults == set(FAULTS)
    assert finished >= 99
