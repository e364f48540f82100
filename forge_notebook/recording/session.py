"""A session of any training loop: ``log`` appends one record, everything else follows from it."""

from __future__ import annotations

import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from forge_notebook.core.catalog import check_session_id, new_session_id, store_path
from forge_notebook.core.control import send_command
from forge_notebook.core.errors import UnknownSession
from forge_notebook.core.frames import MAX_RANK
from forge_notebook.core.runlog import EVENT, SESSION, Reader, SilentWriter, Writer
from forge_notebook.core.session import SessionState
from forge_notebook.core.status import ENDED, Status, check_move
from forge_notebook.core.wire import TrainingMetrics
from forge_notebook.recording import display
from forge_notebook.recording.commands import Command, Requests
from forge_notebook.recording.pump import pump
from forge_notebook.recording.ranks import is_silent, shared_id
from forge_notebook.recording.rows import Rows
from forge_notebook.recording.sending import send_beside, wait_for

UPKEEP_S = 1.0  # how often a removed log or a full disk is looked after
# Told by the process that leads, once; the other ranks' sessions only move along.
STORY = frozenset({"training_started", "training_completed", "training_failed", "training_stopped",
                   "paused", "resumed", "model_started", "model_completed", "controls",
                   "command_ack"})  # fmt: skip


class Session:
    """One recorded training. A context manager.

    Parameters
    ----------
    name
        What viewers show; free text.
    config
        Hyper-parameters, shown and stored as JSON.
    total_steps
        Steps of each model; without it there is no progress and no ETA.
    models
        How many models the session trains, 1 to 65,535.
    store
        Folder of all sessions; default ``$FORGE_STORE`` or Jupyter's data folder.
    resume
        Id of a session to append to instead of starting a new one.
    rank
        In a distributed training: this process's rank, from 0, where every rank shall record.
        Without it rank 0 records and the others' sessions write nothing. Only rank 0 gets commands;
        what it decides (``should_stop``) is for the training to broadcast.
    session_id
        An id of your own. Ranks on several machines need one; on one machine the launcher does.
    url, token
        A Jupyter server elsewhere that shall have the log as well, as it grows, and whose viewers
        may send commands; default ``$FORGE_URL`` and ``$FORGE_TOKEN``. The token is never written.

    Raises
    ------
    ValueError
        Where ``models``, ``total_steps`` or ``rank`` is out of its range, ``session_id`` exists
        already, or ``url`` is no address.
    InvalidSessionId
        Where ``resume`` or ``session_id`` could not be the name of a folder.
    UnknownSession
        Where the store has no session to resume.
    SessionBusy
        Where another process is writing the session to resume.

    A crash of the process loses nothing that ``log`` has returned for, except values that were
    still on an accelerator (see ``flush``). A disk that fails never stops the training: rows it
    did not take are counted, and every viewer shows the count.
    """

    def __init__(
        self,
        name: str = "session",
        *,
        config: Mapping[str, Any] | None = None,
        total_steps: int | None = None,
        models: int = 1,
        store: str | os.PathLike[str] | None = None,
        resume: str | None = None,
        rank: int | None = None,
        session_id: str | None = None,
        url: str | None = None,
        token: str | None = None,
    ) -> None:
        if not isinstance(models, int) or not 1 <= models <= 65_535:
            raise ValueError(f"models={models!r}: give an integer from 1 to 65535")
        if total_steps is not None and (not isinstance(total_steps, int) or total_steps < 1):
            raise ValueError(f"total_steps={total_steps!r}: give an integer above 0, or None")
        if rank is not None and (not isinstance(rank, int) or not 0 <= rank <= MAX_RANK):
            raise ValueError(f"rank={rank!r}: give an integer from 0 to {MAX_RANK}")
        self.name = str(name)
        self._silent = is_silent(rank)
        self._rank = rank or 0
        self.store = Path(store) if store is not None else store_path()
        self.id = check_session_id(resume or session_id or self._new_id(rank))
        self.folder = self.store / self.id
        if resume and not self.folder.is_dir():
            raise UnknownSession(f"no session {resume!r} in {self.store}; nothing to resume")
        log_file = self.folder / "run.log"
        self._writer = SilentWriter(log_file) if self._silent else Writer(log_file, rank=self._rank)
        self._status = Status.CREATED
        self._rows = Rows(self._writer, self.start, None if self._silent else self._use)
        self._made: Callable[..., None] | None = None
        self._requests = Requests(self.folder / "control.log", self.start, self.event)
        self._next_upkeep = 0.0
        self._viewing = threading.Lock()  # the loop and the user may both ask for the metrics
        self._view = (Reader(self.folder / "run.log"), SessionState(self.id))
        if session_id and self._leads and self._writer.seq:
            self._writer.close()
            raise ValueError(f"session {session_id!r} exists; give resume= to append to it")
        if self._leads:
            self._writer.append_json(SESSION, self._describe(config, total_steps, models))
        if not self._silent:
            pump.add(self)
        if display.main_thread_only():
            self.log = display.taking_turns(self.log)  # type: ignore[method-assign]
        self._uplink = send_beside(self.folder, url, token) if self._leads else None
        if resume:
            self.event("resumed")

    @property
    def _leads(self) -> bool:
        """Whether this process tells the session's story; other ranks only add their numbers."""
        return self._rank == 0 and not self._silent

    def _new_id(self, rank: int | None) -> str:
        return new_session_id(self.name) if rank is None else shared_id(self.name)

    def _describe(
        self, config: Mapping[str, Any] | None, total_steps: int | None, models: int
    ) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "time": time.time_ns(),
            "config": dict(config or {}),
            "totalSteps": total_steps,
            "models": models,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "source": os.environ.get("JPY_SESSION_NAME", sys.argv[0] if sys.argv else ""),
            "versions": {"python": platform.python_version()},
        }

    # Recording

    def log(self, step: int | None = None, *, model: int = 0, **metrics: Any) -> None:
        """Record one row of metrics at a step (default: the one after the model's last).

        ``model`` is its index from 0. Values are numbers or tensors and arrays of one element, in
        units of your own; they are kept as 64-bit floats. NaN and infinities are recorded as such.
        A tensor on an accelerator is copied there and read later: ``log`` never waits for a device.
        Raises TypeError where a value is not a number or the step no integer, and ValueError
        where the step does not fit 64 bits.

        >>> import forge_notebook as forge
        >>> with forge.session("two rows") as session:
        ...     session.log(loss=2.0)
        ...     session.log(loss=float("nan"))
        >>> forge.load(session.id).to_pandas()["step"].tolist()
        [0, 1]
        """
        self._rows.log(step, model=model, **metrics)

    def _use(self, made: Callable[..., None]) -> None:
        """From here on ``self.log`` is a function made for the loop's metrics; same meaning,
        faster. A ``log`` of the user's own stays."""
        if type(self).log is Session.log and self.__dict__.get("log") is self._made:
            made.__doc__ = Session.log.__doc__
            self.log = self._made = made  # type: ignore[method-assign]

    def event(
        self, name: str, /, *, step: int | None = None, model: int | None = None, **data: Any
    ) -> None:
        """Record an event. Lifecycle names (``paused``, ``resumed`` ...) move the status.

        ``step`` and ``model`` (from 0) say where on the curve it stands, ``data`` are JSON values.
        Raises InvalidTransition where the status does not allow the event.
        """
        self._status = check_move(self._status, name)
        self._rows.run(self._status is Status.RUNNING)
        if not self._leads:
            if name in STORY or self._silent:
                return
            data["rank"] = self._rank
        self._writer.append_json(
            EVENT,
            {"event": name, "time": time.time_ns(), "step": step, "model": model, "data": data},
        )

    def start(self) -> None:
        """Record that training started; the first ``log`` does so by itself."""
        if self._status is Status.CREATED:
            self.event("training_started")

    def model_started(
        self, index: int, *, name: str, params: int | None = None, total_steps: int | None = None
    ) -> None:
        """Record that the training of model ``index`` (from 0) began.

        ``params`` is the number of its trainable parameters, ``total_steps`` its own steps, where
        they differ from the session's.
        """
        data: dict[str, Any] = {"modelIndex": index, "name": name, "params": params}
        if total_steps is not None:
            data["totalSteps"] = total_steps
        self.start()
        self.event("model_started", model=index, **data)

    def model_completed(self, index: int) -> None:
        """Record that the training of model ``index`` (from 0) is done."""
        with self._viewing:
            total = len(self._fold().models)
        self.event(
            "model_completed",
            model=index,
            step=self._rows.steps.get(index),
            modelIndex=index,
            currentModel=index + 1,
            totalModels=total,
        )

    def flush(self) -> None:
        """Write the values that are still on an accelerator; waits for the device."""
        self._rows.drain(wait=True)

    def finish(self, status: str = "completed", error: str | None = None) -> None:
        """End the session: ``completed``, ``failed`` or ``stopped``. A second call does nothing.

        ``error`` is the text that viewers show of a failure. Syncs the log to the disk; with a
        ``url`` waits at most 5 s for what was not sent yet. Raises ValueError for another status.
        """
        events = {
            "completed": "training_completed",
            "failed": "training_failed",
            "stopped": "training_stopped",
        }
        if status not in events:
            raise ValueError(f"status={status!r}: give one of {', '.join(events)}")
        if self._status in ENDED:
            return
        pump.remove(self)
        if self._leads:
            self._requests.refuse_all("the session has ended")
        data: dict[str, Any] = {} if error is None else {"error": error}
        self.event(events[status], **data)
        self._writer.close()
        if self._uplink is not None:
            wait_for(self._uplink, self.id)

    # Control

    def send_command(self, name: str, **args: Any) -> str:
        """Ask the loop to ``pause``, ``resume``, ``stop``, ``checkpoint`` or ``set``; its id.

        Returns at once; the loop acts when it asks for commands. Raises CommandRefused for another
        name and for a session that nobody records any more.
        """
        return send_command(self.folder, name, args)

    def next_command(self) -> Command | None:
        """The next request of a viewer, or None. Cheap: call it each step.

        Answer it with ``command.ack()``, or ``command.ack(False, "why not")``.
        """
        return self._requests.next()

    @property
    def should_stop(self) -> bool:
        """Whether a viewer asked to stop. While one asked to pause, this waits."""
        return self._requests.stopping()

    # Looking

    @property
    def status(self) -> str:
        """The session's status by what was recorded so far."""
        return self._status.value

    def metrics(self) -> TrainingMetrics | None:
        """SPEC's 12 fields at the newest record, by the fold that every viewer uses.

        Times in seconds, percentages 0 to 100, None for what is not known; None before the first
        row. ``extra`` holds every other metric.
        """
        self.flush()
        with self._viewing:
            return self._fold().metrics()

    def _fold(self) -> SessionState:
        """The state now; whoever calls holds ``_viewing`` for as long as it looks at it."""
        reader, state = self._view
        while records := reader.read(grouped=True):
            for record in records:
                state.apply(record)
        return state

    @property
    def widget(self) -> Any:
        """The session's card: an anywidget that IPython displays. Display it for a live view."""
        return display.card(self.id, str(self.store))

    def _ipython_display_(self) -> None:
        self.widget._ipython_display_()

    def _display_(self) -> Any:
        """What marimo shows of it."""
        return self.widget

    def __repr__(self) -> str:
        return f"Session({self.name!r})"

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish("stopped" if self._requests.stopped else "completed")
        elif issubclass(kind, KeyboardInterrupt):
            self.finish("stopped")
        else:
            self.finish("failed", f"{kind.__name__}: {error}")

    # The background round

    def pump(self) -> None:
        """Read commands, write what arrived from accelerators, look after the file."""
        if self._leads:
            self._requests.read()
        self._rows.drain(wait=False)
        now = time.monotonic()
        if now >= self._next_upkeep:
            self._next_upkeep = now + UPKEEP_S
            self._writer.keep_file()
