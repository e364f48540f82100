"""One model in training: its state, and what hangs on the loop by name."""

from __future__ import annotations

import math
import time
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from forge_notebook.trainer.checkpoint import CheckpointError, Checkpoints, Written
from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.data import Data
from forge_notebook.trainer.device import device_of, forward_of, memory_in_use
from forge_notebook.trainer.group import Group
from forge_notebook.trainer.guard import Guard
from forge_notebook.trainer.hooks import CallbackHook, SessionLike
from forge_notebook.trainer.metrics import evaluate, weight_norm
from forge_notebook.trainer.model import Output
from forge_notebook.trainer.optim import Optimizers, schedule
from forge_notebook.trainer.presets import build_model, model_name, model_seed
from forge_notebook.trainer.shards import load_model, whole


def steps_per_model(config: TrainingConfig, data: Data) -> int:
    """Epochs times batches, at most `max_steps`."""
    steps = config.epochs * data.batches_per_epoch(config.batch_size)
    return steps if config.max_steps is None else min(steps, config.max_steps)


@dataclass
class Meter:
    """Sums since the last progress record."""

    loss: float = 0.0
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, loss: float, tokens: int, seconds: float) -> None:
        """Take one step; the seconds are those of the step alone, without evaluation or pause."""
        if math.isfinite(loss):  # a non-finite loss has a record of its own
            self.loss += loss
            self.steps += 1
        self.tokens += tokens
        self.seconds += seconds


@dataclass
class ModelRun:
    """`step` counts updates of the weights' schedule, `position` batches taken from the data."""

    config: TrainingConfig
    data: Data
    session: SessionLike
    hook: CallbackHook
    index: int
    group: Group = field(default_factory=Group)
    checkpoints: Checkpoints = field(init=False)
    model: nn.Module = field(init=False)
    optimizers: Optimizers = field(init=False)
    step: int = 0
    position: int = 0
    retries: int = 0
    rolled_back_to: Path | None = None
    resumed: bool = False
    grad_norm: float = 0.0
    val_loss: float = math.inf
    best_val_loss: float = math.inf
    bad_batches: int = 0  # in a row
    parts: int = 1  # of one batch, where it does not fit into memory as a whole
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        self.device = device_of(self.config)
        self.model = build_model(self.config, self.data, self.index).to(self.device)
        self.forward = forward_of(self.group.wrap(self.model), self.config)
        self.optimizers = Optimizers(self.model, self.config)  # of what the group made of it
        self.learning_rate = self.config.learning_rate
        self.seed = model_seed(self.config, self.index)
        self.name = model_name(self.config, self.index)
        self.total_steps = steps_per_model(self.config, self.data)
        folder = self.session.folder / "checkpoints" / f"model-{self.index}"
        self.checkpoints = Checkpoints(folder)
        self.guard = Guard(self.data.classes)
        self._saving: Future[Written] | None = None
        self._saving_step = 0

    def batch(self) -> tuple[Tensor, Tensor]:
        """This process's share of the next training batch."""
        batch = self.data.batch(self.seed, self.position, self.config.batch_size)
        x, y = self.group.share(batch)
        return x.to(self.device), y.to(self.device)

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self.learning_rate * schedule(self.config.task, self.step, self.total_steps)

    def due(self, interval: int) -> bool:
        """Whether something that happens every `interval` steps happens now; always at the end."""
        return self.step % interval == 0 or self.step == self.total_steps

    def event(self, name: str, **data: Any) -> None:
        """Record an event at this step of this model."""
        self.session.event(name, step=self.step, model=self.index, **data)

    def report(self, output: Output, y: Tensor, lr: float) -> None:
        """Record progress since the last report, then call the user's callback."""
        predicted = output.logits[:, -y.shape[1] :].argmax(-1)
        meter, self.meter = self.meter, Meter()
        self.session.log(
            self.step,
            model=self.index,
            loss=meter.loss / meter.steps if meter.steps else math.nan,
            accuracy=float(self.group.mean((predicted == y).float().mean())),
            lr=lr,
            grad_norm=self.grad_norm,
            weight_norm=weight_norm(self.model),
            tokens_per_s=meter.tokens / meter.seconds,
            **memory_in_use(self.device),
            epoch=self.position / self.data.batches_per_epoch(self.config.batch_size),
            **{name: float(self.group.mean(value)) for name, value in output.observed.items()},
        )
        self.hook(self.session, self.step, self.index)

    def evaluate(self) -> None:
        """Record the held-out metrics."""
        found = evaluate(self.model, self.data)
        self.val_loss = found.get("val_loss", math.inf)
        self.session.log(self.step, model=self.index, **found)

    def save(self, *, wait: bool = False) -> Path | None:
        """Begin a checkpoint; with `wait`, return its path once it is on disk, None if it is not.

        A disk that cannot take it costs an alert, never the training.
        """
        self.collect(wait=True)
        best = self.val_loss < self.best_val_loss
        self.best_val_loss = min(self.val_loss, self.best_val_loss)
        state = self._state()  # by all processes: each has its shards
        if self.group.rank:
            return None
        self._saving_step = self.step
        self._saving = self.checkpoints.save_soon(self.step, state, best=best)
        return self.collect(wait=True) if wait else None

    def collect(self, *, wait: bool = False) -> Path | None:
        """Record the checkpoint that was begun, if it is finished by now."""
        if self._saving is None or not (wait or self._saving.done()):
            return None
        saving, self._saving = self._saving, None
        at: dict[str, Any] = {"step": self._saving_step, "model": self.index}
        try:
            written = saving.result()
        except OSError as error:
            message = f"checkpoint not written: {error}"
            self.session.event("alert", **at, kind="checkpoint", message=message)
            return None
        if written.remedy:
            self.session.event("recovery", **at, kind="disk", message=written.remedy)
        self.session.event("checkpoint_saved", **at, path=str(written.path))
        return written.path

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint's weights and step; the data goes on where it is."""
        load_model(self.model, state["model"])
        self.optimizers.load_state_dict(state["optimizers"])
        self.step = state["step"]
        self.meter = Meter()
        self.guard.reset()

    def start_over(self) -> None:
        """Go back to the first weights."""
        first = build_model(self.config, self.data, self.index)
        load_model(self.model, first.state_dict())
        self.optimizers = Optimizers(self.model, self.config)
        self.step = 0
        self.meter = Meter()
        self.guard.reset()

    def resume(self) -> None:
        """Go on exactly where the newest whole checkpoint stands, if there is one.

        Raises CheckpointError where it belongs to another model or other data.
        """
        state = self.group.from_first(self.checkpoints.load_newest)
        if state is None:
            return
        found = {"seed": state["seed"], "data": state["data"]}
        for name, expected in (("seed", self.seed), ("data", self.data.fingerprint())):
            if found[name] != expected:
                raise CheckpointError(
                    f"model {self.name!r}: its checkpoint has {name} {found[name]}, "
                    f"this run has {expected}; give what it was trained with"
                )
        try:
            self.restore(state)
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"model {self.name!r}: its checkpoint is of another model: {error}"
            ) from error
        self.position, self.learning_rate = state["position"], state["learning_rate"]
        self.parts = state["parts"]
        self.retries, self.grad_norm = state["retries"], state["grad_norm"]
        self.best_val_loss, self.val_loss = state["best_val_loss"], state["val_loss"]
        self.meter = Meter(**state["meter"])
        self.guard.load_state_dict(state["guard"])
        torch.set_rng_state(state["random"])
        self.resumed = True

    def _state(self) -> dict[str, Any]:
        return {
            "model": whole(self.model.state_dict()),
            "optimizers": whole(self.optimizers.state_dict()),
            "step": self.step,
            "position": self.position,  # with the seed, the whole state of the data
            "seed": self.seed,
            "data": self.data.fingerprint(),
            "learning_rate": self.learning_rate,
            "retries": self.retries,
            "parts": self.parts,
            "grad_norm": self.grad_norm,
            "val_loss": self.val_loss,
            "best_val_loss": self.best_val_loss,
            "meter": asdict(self.meter),
            "guard": self.guard.state_dict(),
            "random": torch.get_rng_state(),  # we draw none; a dataset of the user may
            "config": self.config.to_dict(),
            "saved": time.time(),
        }
