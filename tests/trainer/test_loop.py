import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch

from forge_notebook.trainer.guard import Guard
from forge_notebook.trainer.model import OneHotNet, Output
from forge_notebook.trainer.recovery import TrainingDiverged

from .fake_session import FakeSession, Make, weights

Poison = Callable[[Iterable[int]], None]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Poison:
    """Make the given training forwards (counted from 1, also over rollbacks) return NaN."""

    def inject(forwards: Iterable[int]) -> None:
        bad, count, forward = set(forwards), 0, OneHotNet.forward

        def spoiled(self: OneHotNet, tokens: torch.Tensor) -> Output:
            nonlocal count
            output = forward(self, tokens)
            if torch.is_grad_enabled():
                count += 1
                if count in bad:
                    output.logits = output.logits * math.nan
            return output

        monkeypatch.setattr(OneHotNet, "forward", spoiled)

    return inject


def test_first_step_interval_and_last_step_are_recorded(make: Make) -> None:
    trainer, session = make(epochs=25, progress_update_interval=10, eval_interval=7)
    trainer.fit()
    assert [step for step, _ in session.series("loss")] == [1, 10, 20, 25]
    assert [step for step, _ in session.series("val_loss")] == [0, 7, 14, 21, 25]
    assert set(session.rows[-1]) == {
        "step",
        "model",
        "loss",
        "accuracy",
        "lr",
        "grad_norm",
        "weight_norm",
        "tokens_per_s",
        "memory_mb",
        "epoch",
    }
    assert session.rows[-1]["epoch"] == 25


def test_recorded_loss_is_the_mean_since_the_last_record(make: Make) -> None:
    trainer, every = make(epochs=20, progress_update_interval=1)
    trainer.fit()
    trainer, tenth = make(epochs=20, progress_update_interval=10)
    trainer.fit()
    losses = [loss for _, loss in every.series("loss")]
    assert tenth.series("loss")[2][1] == pytest.approx(sum(losses[10:]) / 10)


def test_models_are_trained_one_after_the_other_to_their_last_step(make: Make) -> None:
    trainer, session = make(model_count=3, epochs=12)
    trainer.fit()
    lifecycle = [event["event"] for event in session.events if "model" in event["event"]]
    assert lifecycle == ["model_started", "model_completed"] * 3
    assert [max(step for step, _ in session.series("loss", m)) for m in range(3)] == [12] * 3
    assert [event["totalSteps"] for event in session.named("model_started")] == [12] * 3
    assert len({float(weights(trainer, index).sum()) for index in range(3)}) == 3
    assert session.ended == ("completed", None)


def test_instrumentation_does_not_change_the_weights(make: Make) -> None:
    silent, _ = make(progress_update_interval=1000, eval_interval=1000, checkpoint_interval=1000)
    silent.fit()
    watched, _ = make(progress_update_interval=1, eval_interval=1, checkpoint_interval=1)
    watched.set_progress_callback(lambda metrics: torch.rand(10).sort())
    watched.fit()
    assert torch.equal(weights(silent), weights(watched))


def test_instrumentation_does_not_change_the_weights_of_a_text_model(make: Make) -> None:
    text = {"task": "text", "preset": "tiny", "batch_size": 2, "seq_len": 16, "max_steps": 4}
    silent, _ = make(**text, progress_update_interval=100, eval_interval=100)
    silent.fit()
    watched, session = make(**text, progress_update_interval=1, eval_interval=1)
    watched.set_progress_callback(lambda metrics: torch.manual_seed(1))
    watched.fit()
    assert torch.equal(weights(silent), weights(watched))
    for name in ("act_steps", "surprise", "memory_read", "memory_write", "bits_per_byte"):
        assert session.series(name), name


def test_exception_in_the_callback_is_reported_once_and_never_reaches_training(make: Make) -> None:
    trainer, session = make()
    calls: list[dict[str, Any]] = []

    def callback(metrics: dict[str, Any]) -> None:
        calls.append(metrics)
        raise ZeroDivisionError("my plot")

    trainer.set_progress_callback(callback)
    trainer.fit()
    assert [call["currentStep"] for call in calls] == [1, 10, 20, 30, 40]
    assert [event["message"] for event in session.named("alert")] == [
        "progress callback: ZeroDivisionError: my plot"
    ]
    assert session.ended == ("completed", None)


def test_step_that_is_not_finite_leaves_the_parameters_untouched(
    make: Make, poison: Poison
) -> None:
    good, _ = make(epochs=11)
    good.fit()
    poison([12])
    spoiled, session = make(epochs=12)
    spoiled.fit()
    assert torch.equal(weights(good), weights(spoiled))
    assert [event["step"] for event in session.named("alert")] == [12]
    assert math.isnan(dict(session.series("loss")[:-1])[12])
    assert math.isfinite(session.series("loss")[-1][1])


def test_lasting_nan_rolls_back_and_training_completes_at_half_the_rate(
    make: Make, poison: Poison
) -> None:
    poison([25, 26, 27])
    trainer, session = make(checkpoint_interval=10)
    trainer.fit()
    (recovery,) = session.named("recovery")
    assert (recovery["step"], recovery["failedStep"], recovery["kind"]) == (20, 27, "rollback")
    assert session.series("lr")[-1][1] == pytest.approx(0.015)
    assert session.series("loss")[-1][0] == 40
    assert session.series("epoch")[-1][1] == 47  # the batches since were not taken again
    assert session.ended == ("completed", None)


def test_second_failure_after_the_same_checkpoint_goes_further_back(
    make: Make, poison: Poison
) -> None:
    poison([25, 26, 27, 30, 31, 32])
    trainer, session = make(checkpoint_interval=10)
    trainer.fit()
    assert [event["step"] for event in session.named("recovery")] == [20, 10]
    assert session.ended == ("completed", None)


@pytest.mark.parametrize(
    ("changes", "rollbacks", "reason"),
    [({"max_retries": 2}, 2, "after 2 rollbacks"), ({"enable_recovery": False}, 0, "is off")],
)
def test_run_that_cannot_be_recovered_fails_and_says_why(
    make: Make, poison: Poison, changes: dict[str, Any], rollbacks: int, reason: str
) -> None:
    poison(range(15, 1000))
    trainer, session = make(checkpoint_interval=10, **changes)
    with pytest.raises(TrainingDiverged, match=reason):
        trainer.fit()
    assert len(session.named("recovery")) == rollbacks
    assert trainer.status == "failed"
    assert session.ended is not None
    assert session.ended[0] == "failed"
    assert "not finite in 3 steps" in str(session.ended[1])


def test_guard_sees_a_loss_that_stays_worse_than_chance_and_lets_a_spike_pass() -> None:
    guard = Guard(classes=59)
    assert [guard.check(99.0, 1.0) for _ in range(9)] == [None] * 9
    assert guard.check(0.1, 1.0) is None
    assert [guard.check(99.0, 1.0) for _ in range(9)] == [None] * 9
    assert "twice chance" in str(guard.check(99.0, 1.0))


def test_diverging_learning_rate_is_caught(make: Make) -> None:
    trainer, session = make(preset="tiny", learning_rate=10.0, max_retries=0)
    with pytest.raises(TrainingDiverged):
        trainer.fit()
    assert session.ended is not None


def test_disk_that_takes_no_checkpoint_costs_an_alert_and_nothing_else(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: object, data: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("forge_notebook.trainer.checkpoint.write_atomically", full)
    trainer, session = make()
    trainer.fit()
    assert {event["kind"] for event in session.named("alert")} == {"checkpoint"}
    assert "No space left" in session.named("alert")[0]["message"]
    assert not session.named("checkpoint_saved")
    assert session.ended == ("completed", None)


def test_checkpoints_follow_the_interval_and_the_end(make: Make) -> None:
    trainer, session = make(checkpoint_interval=15)
    trainer.fit()
    assert [event["step"] for event in session.named("checkpoint_saved")] == [0, 15, 30, 40]


def test_fake_session_is_a_session(session: FakeSession) -> None:
    from forge_notebook.trainer.hooks import SessionLike

    found: SessionLike = session
    assert found.metrics() is None
