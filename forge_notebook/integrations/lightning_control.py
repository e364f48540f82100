"""Lightning: the callback that carries out what viewers ask for."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback

from forge_notebook.integrations.control import Control
from forge_notebook.integrations.lightning import ForgeLogger

SYNC_STEPS = 10  # with several processes: all agree on a stop this often, one small reduction


class ForgeControl(Callback):
    """Pause, resume and stop from any viewer; with DDP all ranks stop together."""

    def __init__(self) -> None:
        self._control: Control | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take commands for the session of the trainer's ForgeLogger, on rank 0."""
        logger = next((x for x in trainer.loggers if isinstance(x, ForgeLogger)), None)
        if logger is None:
            raise ValueError("ForgeControl needs a ForgeLogger: Trainer(logger=ForgeLogger(...))")
        if trainer.is_global_zero:
            steps = trainer.estimated_stepping_batches
            logger.total_steps = logger.total_steps or (int(steps) if 0 < steps < 1e15 else None)
            self._control = Control(logger.open())
            params = sum(p.numel() for p in pl_module.parameters())
            logger.open().model_started(
                0, name=type(pl_module).__name__, params=params, total_steps=logger.total_steps
            )

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Carry out what viewers asked for."""
        asked = self._control.poll() if self._control is not None else set()
        stop = "stop" in asked
        if trainer.world_size > 1:
            if trainer.global_step % SYNC_STEPS:
                return
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            trainer.should_stop = True
            for logger in trainer.loggers:
                if isinstance(logger, ForgeLogger):
                    logger.stopped = True
