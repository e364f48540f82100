import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from forge_notebook.trainer import CognateTrainer

from .fake_session import FakeCommand, FakeSession, Make, weights


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def ask(session: FakeSession, step: int, name: str, **args: Any) -> FakeCommand:
    """Have a command wait when a step is recorded."""
    command = FakeCommand(name, args)
    session.at_step.setdefault((0, step), []).append(command)
    return command


def test_background_training_pauses_resumes_and_completes(make: Make) -> None:
    trainer, session = make(epochs=100_000)
    assert trainer.status == "created"
    assert trainer.start() is trainer
    trainer.pause()
    wait_for(lambda: trainer.status == "paused")
    rows = len(session.rows)
    time.sleep(0.15)
    assert len(session.rows) == rows
    trainer.resume()
    wait_for(lambda: trainer.status == "running")
    trainer.stop()
    assert trainer.wait() == "stopped"
    assert session.ended == ("stopped", None)
    assert [e["event"] for e in session.events if e["event"] in ("paused", "resumed")] == [
        "paused",
        "resumed",
    ]
    assert all(command.answer == (True, "") for command in session.sent)


def test_stop_while_paused_stops(make: Make) -> None:
    trainer, _ = make(epochs=3000)
    trainer.pause()
    trainer.start()
    wait_for(lambda: trainer.status == "paused")
    trainer.stop()
    assert trainer.wait(20) == "stopped"
    assert not trainer.models


def test_stop_keeps_a_checkpoint_of_the_step_it_stopped_at(make: Make) -> None:
    trainer, session = make()
    ask(session, 10, "stop")
    trainer.fit()
    assert trainer.status == "stopped"
    assert [event["step"] for event in session.named("checkpoint_saved")] == [0, 10]


def test_wait_returns_at_its_timeout(make: Make) -> None:
    trainer, _ = make(epochs=100_000)
    trainer.start()
    wait_for(lambda: trainer.status == "running")  # its thread may not have begun
    assert trainer.wait(0.02) == "running"
    trainer.stop()
    trainer.wait()


def test_checkpoint_command_is_done_at_once_and_acknowledged(make: Make) -> None:
    trainer, session = make()
    command = ask(session, 10, "checkpoint")
    trainer.fit()
    assert command.answer == (True, "step-000000010.zip")
    assert [event["step"] for event in session.named("checkpoint_saved")] == [0, 10, 40]


def test_learning_rate_can_be_set_while_training(make: Make) -> None:
    trainer, session = make()
    command = ask(session, 20, "set", learning_rate=0.001)
    trainer.fit()
    assert command.answer == (True, "learning_rate 0.001")
    assert dict(session.series("lr"))[20] == pytest.approx(0.03)
    assert session.series("lr")[-1][1] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("set", {"learning_rate": -1}, "not a number above 0"),
        ("set", {"learning_rate": "fast"}, "not a number above 0"),
        ("set", {"learning_rate": float("nan")}, "not a number above 0"),
        ("set", {"batch_size": 2}, "only learning_rate"),
        ("set", {}, "only learning_rate"),
        ("explode", {}, "unknown command 'explode'"),
    ],
)
def test_impossible_command_is_refused_and_training_goes_on(
    make: Make, name: str, args: dict[str, Any], message: str
) -> None:
    trainer, session = make(epochs=12)
    command = ask(session, 10, name, **args)
    trainer.fit()
    assert command.answer is not None
    assert command.answer[0] is False
    assert message in command.answer[1]
    assert session.ended == ("completed", None)


def test_exception_in_training_fails_the_session_and_is_raised_by_wait(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("forge_notebook.trainer.cognate.train_session", broken)
    trainer, session = make()
    trainer.start()
    with pytest.raises(MemoryError, match="no room"):
        trainer.wait()
    assert session.ended == ("failed", "MemoryError: no room")
    assert trainer.status == "failed"


def test_interrupt_of_fit_stops_the_training_properly(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, session = make(epochs=3000)

    def interrupted(timeout: float | None = None) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert trainer.status == "stopped"
    assert session.ended == ("stopped", None)


def test_trainer_starts_only_once(make: Make) -> None:
    trainer, _ = make(epochs=1)
    trainer.fit()
    with pytest.raises(RuntimeError, match="already started"):
        trainer.start()


def test_waiting_for_what_was_not_started_is_an_error(make: Make) -> None:
    with pytest.raises(RuntimeError, match="was not started"):
        make()[0].wait()


def test_repr_is_one_stable_line(make: Make) -> None:
    trainer, _ = make(model_count=2)
    expected = "<CognateTrainer 'cognate-modular': 2 models, modular/onehot, 40 steps, created>"
    assert repr(trainer) == repr(make(model_count=2)[0]) == expected


def test_training_leaves_the_settings_of_the_main_thread_alone(make: Make) -> None:
    threads, tiny = torch.get_num_threads(), torch.tensor([1e-40])
    make(threads=1, epochs=2)[0].fit()
    assert torch.get_num_threads() == threads
    assert float(tiny * 1) > 0


def test_threads_are_calibrated_on_a_copy(make: Make) -> None:
    fixed, _ = make(epochs=1)
    fixed.fit()
    measured, _ = make(epochs=1, threads="auto")
    measured.fit()
    assert torch.allclose(weights(fixed), weights(measured), atol=1e-5)


def test_real_session_records_a_whole_training(store: Path) -> None:
    config = {"task": "modular", "preset": "onehot", "batch_size": None, "epochs": 30}
    trainer = CognateTrainer({**config, "model_count": 2, "threads": 1}, name="two")
    seen: list[dict[str, Any]] = []
    trainer.set_progress_callback(seen.append)
    trainer.fit()
    metrics = trainer.metrics
    assert metrics is not None
    assert (metrics["overallProgress"], metrics["currentModel"], metrics["totalModels"]) == (
        100,
        2,
        2,
    )
    assert (metrics["modelParams"], metrics["currentStep"], metrics["totalSteps"]) == (
        45312,
        30,
        30,
    )
    assert metrics["extra"]["grokMethod"] == "rank"
    assert [call["overallProgress"] for call in seen] == sorted(
        call["overallProgress"] for call in seen
    )
    assert (store / trainer.session.id / "run.log").exists()


def test_real_session_takes_the_commands_of_the_trainer() -> None:
    config = {"task": "modular", "preset": "onehot", "batch_size": None, "epochs": 100_000}
    trainer = CognateTrainer({**config, "model_count": 1, "threads": 1}).start()
    trainer.pause()
    wait_for(lambda: trainer.status == "paused")
    trainer.stop()
    assert trainer.wait(20) == "stopped"
    assert trainer.session.status == "stopped"  # type: ignore[attr-defined]


def test_commands_are_carried_out_at_the_next_step_on_a_real_session() -> None:
    config = {"task": "modular", "preset": "onehot", "batch_size": None, "epochs": 1_000_000}
    each = {"progress_update_interval": 1}  # what a command did is seen at the next step
    trainer = CognateTrainer({**config, **each, "model_count": 1, "threads": 1}).start()
    session: Any = trainer.session
    wait_for(lambda: "lr" in (session.metrics() or {"extra": {}})["extra"])
    waits = []
    for value in (0.01, 0.02, 0.03, 0.04, 0.05):
        began = time.monotonic()
        session.send_command("set", learning_rate=value)
        wait_for(lambda value=value: session.metrics()["extra"]["lr"] == value)
        waits.append(time.monotonic() - began)
    trainer.stop()
    assert trainer.wait(20) == "stopped"
    assert min(waits) < 0.2  # the machine may be busy; the bound is our own 50 ms and a step


def test_trainer_loads_no_notebook_and_its_configuration_no_torch() -> None:
    code = (
        "import sys, forge_notebook.trainer as t; t.TrainingConfig.demo();"
        "assert 'torch' not in sys.modules; t.CognateTrainer;"
        "bad = {'tornado', 'anywidget', 'ipywidgets', 'jupyter_server', 'IPython'};"
        "assert not bad & set(sys.modules), bad & set(sys.modules);"
        "assert not [m for m in sys.modules if m.startswith('forge_notebook.notebook')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
