"""CognateTrainer: a training session in the background of a notebook, or blocking in a script."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from forge_notebook.core.catalog import store_path
from forge_notebook.trainer.config import ConfigError, TrainingConfig
from forge_notebook.trainer.control import Control, Stopped
from forge_notebook.trainer.data import Data, load_data
from forge_notebook.trainer.device import device_of
from forge_notebook.trainer.group import Group, kind_of
from forge_notebook.trainer.hooks import CallbackHook, ProgressCallback, SessionLike
from forge_notebook.trainer.launch import Launched
from forge_notebook.trainer.loop import train_session
from forge_notebook.trainer.past import recorded
from forge_notebook.trainer.run import steps_per_model
from forge_notebook.trainer.side import Executors, train_side_by_side
from forge_notebook.trainer.sigterm import stop_on_sigterm

if TYPE_CHECKING:
    from torch import nn


class CognateTrainer:
    """Trains the models of a configuration and records them as one session.

    Parameters
    ----------
    config
        A `TrainingConfig`, or a mapping of its fields; default: its defaults.
    name
        What viewers show; default `cognate-` and the task.
    store
        Folder of all sessions; default `$FORGE_STORE` or Jupyter's data folder.
    data
        Text to train on instead of the configured corpus, or a `LoaderData` of token ids, shape
        (batch, time).
    session
        A session to record into instead of a new one.
    resume
        Id of a session whose training was interrupted, stopped or failed: it goes on from the
        newest checkpoints (weights, optimizer, random numbers, position in the data), in the same
        session, with the session's own configuration. On a CPU the weights come out bit for bit
        as if it had never stopped, if `threads` is a number.
    executor
        Trains the models side by side, each as a job of this `concurrent.futures.Executor`
        (`ProcessPoolExecutor` with `spawn`, `RayExecutor`) instead of one after the other; all
        record into the one session. Workers must see the store. Or a function that makes one: it
        is called again when a killed worker has broken the first, and the models that were in
        training go on from their checkpoints.
    group
        The processes that train together; set by `forge_notebook.trainer.worker`.

    Raises
    ------
    ConfigError
        For what cannot be trained or resumed. Everything is checked here, before a session exists.
    UnknownSession
        Where the store has no session to resume.
    """

    def __init__(
        self,
        config: TrainingConfig | Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        store: Path | str | None = None,
        data: str | bytes | Data | None = None,
        session: SessionLike | None = None,
        resume: str | None = None,
        executor: Executors | None = None,
        group: Group | None = None,
    ) -> None:
        if group is not None and executor is not None:
            raise ConfigError("group and executor exclude each other: one model, or many")
        self._group, self._executor = group, executor
        self._known: dict[int, int] = {}
        self.completed: set[int] | None = None
        self._resume = resume
        if resume is not None:
            if config is not None:
                raise ConfigError("config and resume exclude each other: the session has its own")
            past = recorded(resume, store)
            config, name = past.config, name or past.name
            self.completed, self._known = past.completed, past.steps
        if not isinstance(config, TrainingConfig):
            config = TrainingConfig.from_dict(config or {})
        device_of(config)  # says what is missing, before there is a session
        self.config = config
        given = isinstance(data, str | bytes) or data is None
        self._given = data is not None
        self.data: Data = load_data(config, data) if given else data  # type: ignore[assignment,arg-type]
        self.steps = steps_per_model(config, self.data)
        self.name = name or f"cognate-{config.task}"
        self.status = "created"
        self.models: list[nn.Module] = []
        self._store = None if store is None else Path(store)
        self._session = session
        self._hook = CallbackHook()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def session(self) -> SessionLike:
        """The recording session; created on first use."""
        if self._session is None:
            from forge_notebook.recording import Session

            self._session = Session(
                self.name,
                config={**self.config.to_dict(), "marks": self.data.marks()},
                total_steps=self.steps,
                models=self.config.model_count,
                store=self._store,
                resume=self._resume,
            )
        return self._session

    @property
    def metrics(self) -> dict[str, Any] | None:
        """SPEC's 12 fields and more, times in seconds, percentages 0 to 100; None before the first.

        `loss` is in nats per byte of text, or per answer of modular arithmetic.
        """
        found: dict[str, Any] | None = self.session.metrics()
        return found

    def set_progress_callback(self, function: ProgressCallback | None) -> None:
        """Call `function(metrics)` at every progress record, in the training thread.

        `metrics` are SPEC's 12 fields. What the function raises is recorded and stops nothing.
        """
        self._hook.function = function

    def start(self) -> CognateTrainer:
        """Begin in a background thread and return at once, with this trainer.

        Raises RuntimeError where it was started already.
        """
        if self._thread is not None:
            raise RuntimeError(f"{self!r} was already started; make a new trainer to train again")
        session = self.session
        stop_on_sigterm(self)
        self._thread = threading.Thread(
            target=self._train, args=(session,), name=f"forge-{self.name}", daemon=True
        )
        self._thread.start()
        return self

    def fit(self) -> CognateTrainer:
        """Train and return at the end; Ctrl-C stops the training properly, then goes on up.

        Raises what the training raised, such as `TrainingDiverged`.
        """
        try:
            self.start().wait()
        except KeyboardInterrupt:
            if self._thread is not None:
                self.stop()
                self._thread.join()
            raise
        return self

    def wait(self, timeout: float | None = None) -> str:
        """Wait for the end, at most `timeout` seconds; returns the status, raises what failed.

        Raises RuntimeError where the training was not started.
        """
        if self._thread is None:
            raise RuntimeError(f"{self!r} was not started")
        self._thread.join(timeout)
        if self._error is not None:
            raise self._error
        return self.status

    def complete_only(self, completed: set[int] | None) -> None:
        """Go on from checkpoints, without the models that are done; None: from the first step."""
        self.completed = completed

    def launch(
        self,
        processes: int = 2,
        *,
        distributed: Literal["ddp", "fsdp"] = "ddp",
        max_restarts: int = 2,
    ) -> Launched:
        """Train in `processes` processes of torchrun instead, each with its share of every batch.

        `distributed` says how: in `ddp` each has a copy of the model; in `fsdp` (torch's FSDP2)
        each keeps a share of its weights, gradients and optimizer state, and the model is whole in
        a process only at the start and for a checkpoint, in main memory. Checkpoints are the same
        files: a session goes on with any number of processes, in either way or in one, by
        `CognateTrainer(resume=id)`. `fsdp` takes no `compile`, and `threads="auto"` is each
        process's share of the cores. The slot memory of `cognate-25m` is written from the first
        process's examples alone. Tested on CPUs (gloo); on GPUs each process takes the one of its
        number (nccl), which is not tested.

        The data must come from the configuration (`data=` of the configuration names a file), for
        the processes read it themselves. Returns once the session exists. `max_restarts` is how
        often torchrun starts all of them again, from the newest checkpoint, when one has died.
        Raises ConfigError where the batch cannot be shared or the trainer was started, and
        LaunchFailed with torchrun's output where no session came to be within 120 s.
        """
        if self._given or self._thread is not None:
            raise ConfigError("launch() trains what the configuration names, and nothing started")
        kind_of(distributed, self.config, processes)
        return Launched(
            self.config,
            name=self.name,
            store=self._store or store_path(),
            processes=processes,
            max_restarts=max_restarts,
            distributed=distributed,
            resume=self._resume,
        )

    def pause(self) -> None:
        """Ask to pause after the current step."""
        self.session.send_command("pause")

    def resume(self) -> None:
        """Ask to go on."""
        self.session.send_command("resume")

    def stop(self) -> None:
        """Ask to stop after the current step, with a checkpoint."""
        self.session.send_command("stop")

    def checkpoint(self) -> None:
        """Ask for a checkpoint after the current step."""
        self.session.send_command("checkpoint")

    def _train(self, session: SessionLike) -> None:
        self.status = "running"
        try:
            if self._executor is not None:
                self._train_side_by_side(session, self._executor)
            control = Control(self._set_status)
            train_session(
                self.config,
                self.data,
                session,
                self._hook,
                control,
                self.models,
                self.completed,
                self._group,
            )
            self._end(session, "completed")
        except Stopped:
            self._end(session, "stopped")
        except BaseException as error:
            self._error = error
            self._end(session, "failed", f"{type(error).__name__}: {error}")

    def _train_side_by_side(self, session: SessionLike, executor: Executors) -> None:
        train_side_by_side(
            self.config,
            self.data if self._given else None,
            session,
            self._hook,
            self._set_status,
            executor,
            self.completed,
            self._known,
        )
        self.completed = set(range(self.config.model_count))  # what is left is to read them back

    def _end(self, session: SessionLike, status: str, error: str | None = None) -> None:
        session.finish(status, error=error)
        self.status = status

    def _set_status(self, status: str) -> None:
        self.status = status

    @property
    def widget(self) -> Any:
        """The card of the session, through recording: the trainer knows no notebook."""
        return self.session.widget

    def _ipython_display_(self) -> None:
        self.widget._ipython_display_()

    def _display_(self) -> Any:
        """What marimo shows of it."""
        return self.widget

    def __repr__(self) -> str:
        config = self.config
        count = f"{config.model_count} model{'s' if config.model_count > 1 else ''}"
        what = f"{config.task}/{config.preset}"
        return f"<CognateTrainer {self.name!r}: {count}, {what}, {self.steps} steps, {self.status}>"
