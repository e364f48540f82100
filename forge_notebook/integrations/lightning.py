"""Lightning: a ``Logger`` that records. Pause and stop: ``lightning_control.ForgeControl``."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from forge_notebook.integrations.control import numbers
from forge_notebook.integrations.show import show
from forge_notebook.recording import Session


class ForgeLogger(Logger):
    """``Trainer(logger=ForgeLogger("my run"), callbacks=[ForgeControl()])``.

    The session starts with the first thing to record, on rank 0 only. Raises nothing into the
    training; ``session`` is ``None`` on other ranks.
    """

    def __init__(
        self, name: str = "lightning", *, session: Session | None = None,
        total_steps: int | None = None, display: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self._name = name
        self._session = session
        self._owns = session is None
        self._config: dict[str, Any] = {}
        self.total_steps = total_steps
        self.stopped = False
        self._display = display

    @property
    def name(self) -> str:
        """What viewers show."""
        return self._name

    @property
    def version(self) -> str | None:
        """The session's id, once there is one."""
        return self._session.id if self._session is not None else None

    @property
    def save_dir(self) -> str | None:
        """Where checkpoints may go: the session's folder."""
        return str(self._session.folder) if self._session is not None else None

    @property
    @rank_zero_experiment
    def experiment(self) -> Session | None:
        """The session, from the start of ``fit`` on; other ranks get one that does nothing."""
        return self._session  # Lightning asks before it tells the hyper-parameters

    def open(self) -> Session:
        """The session, started now if it is not yet. For rank 0."""
        if self._session is None:
            self._session = Session(self._name, config=self._config, total_steps=self.total_steps)
            if self._display:
                show(self._session)
        return self._session

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Keep them for the session's start; later they become an event."""
        values = vars(params) if isinstance(params, Namespace) else dict(params)
        if self._session is None:
            self._config.update(values)
        elif values:
            self._session.event("config", **{str(k): v for k, v in values.items()})

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Record one row."""
        if row := numbers(metrics):
            self.open().log(step, **row)

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """A checkpoint is a mark on the curve."""
        self.open().event("checkpoint_saved", path=str(checkpoint_callback.best_model_path))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the session that is ours: Lightning says ``success`` or ``failed``."""
        if self._session is not None and self._owns:
            ended = "stopped" if self.stopped else "completed"
            self._session.finish(ended if status in ("success", "finished") else "failed")
