"""A session that remembers what the trainer recorded, and replays commands."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from forge_notebook.trainer.cognate import CognateTrainer


@dataclass
class FakeCommand:
    name: str
    args: dict[str, Any] = field(default_factory=dict)
    answer: tuple[bool, str] | None = None

    def ack(self, ok: bool = True, message: str = "") -> None:
        self.answer = (ok, message)


class FakeSession:
    def __init__(self, folder: Path) -> None:
        self.id = self.name = "fake"
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.commands: deque[FakeCommand] = deque()
        self.sent: list[FakeCommand] = []
        self.at_step: dict[tuple[int, int], list[FakeCommand]] = {}
        self.ended: tuple[str, str | None] | None = None

    def start(self) -> None:
        self.event("training_started")

    def model_started(self, index: int, *, name: str, params: int, total_steps: int) -> None:
        self.event("model_started", model=index, name=name, params=params, totalSteps=total_steps)

    def log(self, step: int, *, model: int = 0, **metrics: Any) -> None:
        assert all(isinstance(value, float | int) for value in metrics.values())
        self.rows.append({"step": step, "model": model, **metrics})
        for command in self.at_step.pop((model, step), []):
            self._queue(command)

    def event(
        self, event: str, /, *, step: int | None = None, model: int | None = None, **data: Any
    ) -> None:
        self.events.append({"event": event, "step": step, "model": model, **data})

    def model_completed(self, index: int) -> None:
        self.event("model_completed", model=index)

    def send_command(self, name: str, **args: Any) -> None:
        self._queue(FakeCommand(name, args))

    def _queue(self, command: FakeCommand) -> None:
        self.sent.append(command)
        self.commands.append(command)

    def next_command(self) -> FakeCommand | None:
        return self.commands.popleft() if self.commands else None

    def metrics(self) -> dict[str, Any] | None:
        return {"currentStep": self.rows[-1]["step"]} if self.rows else None

    def finish(self, status: str = "completed", error: str | None = None) -> None:
        self.ended = (status, error)

    def series(self, name: str, model: int = 0) -> list[tuple[int, float]]:
        return [(r["step"], r[name]) for r in self.rows if name in r and r["model"] == model]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [found for found in self.events if found["event"] == event]

    @property
    def widget(self) -> Any:
        raise NotImplementedError  # the trainer shows a card only when a notebook asks for it


Make = Callable[..., tuple[CognateTrainer, FakeSession]]


def stop_from(trainer: CognateTrainer, step: int) -> None:
    """Have a training with a real session stop at the first progress record from a step on.

    Commands come by a file that is looked at each 50 ms, in which a fast machine takes its last
    step: here the training waits until the command has come.
    """

    def stop(metrics: dict[str, Any]) -> None:
        if metrics["currentStep"] < step:
            return
        trainer.stop()
        inbox = trainer.session._requests._inbox  # type: ignore[attr-defined]
        deadline = time.monotonic() + 20
        while not inbox._waiting and time.monotonic() < deadline:
            time.sleep(0.002)

    trainer.set_progress_callback(stop)


def weights(trainer: CognateTrainer, index: int = 0) -> torch.Tensor:
    """All parameters of a trained model."""
    return torch.nn.utils.parameters_to_vector(trainer.models[index].parameters()).detach()
