"""One model as a job of its own, in any process that sees the session's folder.

It records into a file of its own, `jobs/model-<index>.log`, which the session's process copies into
the session: every log has one writer, also on a network disk. A job that finds checkpoints goes on
from the newest, so whoever runs it may simply run it again after its process was killed.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from forge_notebook.core.runlog import EVENT, Reader, Writer, has_writer
from forge_notebook.trainer.config import ConfigError, TrainingConfig
from forge_notebook.trainer.control import Control, Stopped
from forge_notebook.trainer.data import Data, load_data
from forge_notebook.trainer.hooks import CallbackHook
from forge_notebook.trainer.loop import train_one

COMMANDS_S = 0.02  # between two looks for commands
ALIVE_S = 2.0  # between two looks whether anybody still records the session
LOCK_S = 10.0  # a process that was killed is gone by then, and its lock with it


@dataclass(frozen=True)
class Job:
    """What a worker needs to know; everything in it can be pickled."""

    config: dict[str, Any]
    index: int
    folder: str  # of the session; all workers see it
    after: int  # seq of the newest command that is older than this training
    again: bool  # whether the session was resumed
    data: Data | None = None  # None: what the configuration names


def job_log(folder: Path, index: int) -> Path:
    """Where the job of a model records."""
    return folder / "jobs" / f"model-{index}.log"


class JobCommand:
    """A viewer's command as one job gets it; the session's process answers for all of them."""

    def __init__(self, name: str, args: dict[str, Any], command_id: str, writer: Writer) -> None:
        self.name, self.args, self.id, self._writer = name, args, command_id, writer

    def ack(self, ok: bool = True, message: str = "") -> None:
        """Tell the session's process."""
        data = {"commandId": self.id, "ok": ok, "message": message}
        record = {"event": "command_ack", "time": time.time_ns(), "data": data}
        self._writer.append_json(EVENT, record)


class JobSession:
    """The part of a session that a job needs: its own log, and everybody's commands."""

    def __init__(self, job: Job) -> None:
        self.folder = Path(job.folder)
        if not self.folder.is_dir():
            raise ConfigError(f"no folder {self.folder} here: all workers need the same store")
        self.id = self.name = self.folder.name
        self.writer = Writer(job_log(self.folder, job.index), wait_s=LOCK_S)
        self._commands, self._after = Reader(self.folder / "control.log"), job.after
        self._waiting: deque[JobCommand] = deque()
        self._next_look = self._next_alive = 0.0

    def log(self, step: int, *, model: int = 0, **metrics: Any) -> None:
        """Record values."""
        self.writer.append_point(step, model, {k: float(v) for k, v in metrics.items()})

    def event(
        self, name: str, /, *, step: int | None = None, model: int | None = None, **data: Any
    ) -> None:
        """Record something that happened."""
        record = {"event": name, "time": time.time_ns(), "step": step, "model": model}
        self.writer.append_json(EVENT, {**record, "data": data})

    def model_started(self, index: int, *, name: str, params: int, total_steps: int) -> None:
        """Record that the model's training began."""
        self.event("model_started", model=index, name=name, params=params, total_steps=total_steps)

    def model_completed(self, index: int) -> None:
        """Record that the model is done."""
        self.event("model_completed", model=index)

    def next_command(self) -> JobCommand | None:
        """The oldest command since this training began; a stop where nobody records any more."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + COMMANDS_S
            self._read()
        if now >= self._next_alive:
            self._next_alive = now + ALIVE_S
            if not has_writer(self.folder / "run.log"):
                self._waiting.append(JobCommand("stop", {}, "", self.writer))
        return self._waiting.popleft() if self._waiting else None

    def _read(self) -> None:
        for record in self._commands.read():
            if record.kind == EVENT and record.seq > self._after:
                data = record.data["data"]
                command = JobCommand(
                    record.data["event"], data["args"], data["commandId"], self.writer
                )
                self._waiting.append(command)


def run_job(job: Job) -> str:
    """Train one model to its end, in this process; `completed` or `stopped`."""
    torch.set_flush_denormal(True)
    config = TrainingConfig.from_dict(job.config)
    session: Any = JobSession(job)
    began_before = session.writer.seq > 0
    data = load_data(config) if job.data is None else job.data
    try:
        session.writer.append_json(EVENT, {"event": "job", "time": time.time_ns(), "data": {}})
        train_one(
            config, data, session, CallbackHook(), Control(lambda status: None), job.index,
            again=job.again or began_before,
        )  # fmt: skip
    except Stopped:
        return "stopped"
    finally:
        session.writer.close()
    return "completed"
