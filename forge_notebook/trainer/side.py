"""The models of a session side by side, each a job of a `concurrent.futures.Executor`.

This process records the session: it copies what the jobs recorded, hands them nothing but their
configuration, and answers a viewer's command when all running jobs have obeyed it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from dataclasses import dataclass, field
from typing import Any

from forge_notebook.core.runlog import POINTS, Reader, Record, last_seq
from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.control import Stopped
from forge_notebook.trainer.data import Data
from forge_notebook.trainer.hooks import CallbackHook, SessionLike
from forge_notebook.trainer.job import Job, job_log, run_job

POLL_S = 0.05  # between two looks at the jobs' logs
OURS = frozenset({"paused", "resumed"})  # told once, when all jobs have obeyed

Executors = Executor | Callable[[], Executor]


@dataclass
class Asked:
    """A command on its way: which jobs have not answered yet, and what the others said."""

    command: Any
    open: set[int]
    ok: bool = True
    messages: dict[str, None] = field(default_factory=dict)


class Relay:
    """Copies the logs of the jobs into the session, and commands' answers to the viewers."""

    def __init__(
        self,
        session: SessionLike,
        hook: CallbackHook,
        on_status: Callable[[str], None],
        known: Mapping[int, int],
        count: int,
    ) -> None:
        self.session, self.hook, self.on_status = session, hook, on_status
        self.running: set[int] = set()
        self.stopping = self._paused = False
        self._seen: set[int] = set()
        self._asked: dict[str, Asked] = {}
        self._settled: set[str] = set()
        self._early: list[tuple[int, Mapping[str, Any]]] = []  # a job may read faster than we do
        self._readers = {i: Reader(job_log(session.folder, i)) for i in range(count)}
        for index in range(count):  # what jobs recorded after the session's process had died
            for record in self._records(index):
                if record.kind == POINTS and record.data.step > known.get(index, 0):
                    self._take(index, record)

    def _records(self, index: int) -> list[Record]:
        found: list[Record] = []
        while records := self._readers[index].read():
            found += records
        return found

    def copy(self) -> None:
        """Record what the jobs recorded since the last call."""
        for index in self._readers:
            for record in self._records(index):
                self._take(index, record)

    def _take(self, index: int, record: Record) -> None:
        if record.kind == POINTS:
            point = record.data
            row = dict(zip(point.names, point.values, strict=True))
            self.session.log(point.step, model=index, **row)
            if "tokens_per_s" in row:  # a progress record, not an evaluation
                self.hook(self.session, point.step, index)
            return
        event, data = record.data["event"], record.data["data"]
        if event == "job":
            self._job_began(index)
        elif event == "command_ack":
            self._answered(index, data)
        elif event == "model_started":
            self.session.model_started(index, **data)
        elif event == "model_completed":
            self.session.model_completed(index)
        elif event not in OURS:
            self.session.event(event, step=record.data["step"], model=index, **data)

    def _job_began(self, index: int) -> None:
        if index in self._seen:
            message = f"the worker of model {index + 1} was lost; another one goes on"
            self.session.event("recovery", model=index, kind="worker", message=message)
        self._seen.add(index)
        self.running.add(index)

    def ended(self, index: int) -> None:
        """A job has come to its end: nobody waits for its answers any more."""
        self.running.discard(index)
        for asked in list(self._asked.values()):
            self._settle(asked, index)

    def obey(self) -> None:
        """Take new commands; the jobs read them by themselves."""
        while (command := self.session.next_command()) is not None:
            asked = Asked(command, set(self.running))
            self._asked[command.id] = asked  # type: ignore[attr-defined]
            self.stopping = self.stopping or command.name == "stop"
            early, self._early = self._early, []
            for index, data in early:
                self._answered(index, data)
            self._settle(asked)

    def _answered(self, index: int, data: Mapping[str, Any]) -> None:
        asked = self._asked.get(data["commandId"])
        if asked is None:
            if data["commandId"] not in self._settled:  # else by a job that began later
                self._early.append((index, data))
            return
        asked.ok = asked.ok and data["ok"]
        if data["message"]:
            asked.messages[data["message"]] = None
        self._settle(asked, index)

    def _settle(self, asked: Asked, *indices: int) -> None:
        asked.open.difference_update(indices)
        command = asked.command
        if asked.open or command.id in self._settled:
            return
        del self._asked[command.id]
        self._settled.add(command.id)
        if asked.ok and command.name in ("pause", "resume"):
            self._pause(command.name == "pause")
        command.ack(asked.ok, "; ".join(asked.messages))

    def _pause(self, pause: bool) -> None:
        if pause != self._paused:
            self._paused = pause
            self.session.event("paused" if pause else "resumed")
            self.on_status("paused" if pause else "running")


def train_side_by_side(
    config: TrainingConfig,
    data: Data | None,
    session: SessionLike,
    hook: CallbackHook,
    on_status: Callable[[str], None],
    executor: Executors,
    completed: Collection[int] | None = None,
    known: Mapping[int, int] | None = None,
) -> None:
    """Train all models of the session that are not done, each as a job; returns at the end.

    `data` is None where the jobs load what the configuration names. A killed worker that broke the
    executor costs a new one where `executor` is a function, at most `max_retries` times. A model
    that fails fails the session, once the others have come to their end. Raises what the first one
    raised, `Stopped`, and BrokenExecutor where there is no new one.
    """
    session.start()
    relay = Relay(session, hook, on_status, known or {}, config.model_count)
    after = last_seq(session.folder / "control.log")
    todo = [i for i in range(config.model_count) if i not in (completed or ())]
    for attempt in range(config.max_retries + 1):
        jobs = {
            i: Job(config.to_dict(), i, str(session.folder), after, completed is not None, data)
            for i in todo
        }
        if isinstance(executor, Executor):
            broken, todo = _run(executor, jobs, relay)
        else:
            with executor() as made:
                broken, todo = _run(made, jobs, relay)
        if broken is None:
            return
        if isinstance(executor, Executor) or attempt == config.max_retries:
            raise broken
    raise AssertionError("unreachable: the last attempt returns or raises")


def _run(
    executor: Executor, jobs: dict[int, Job], relay: Relay
) -> tuple[BrokenExecutor | None, list[int]]:
    """Run the jobs; what broke the executor, and the models that are not done because of it."""
    futures: dict[Future[str], int] = {}
    ends: dict[int, BaseException | str] = {}
    try:
        for index, job in jobs.items():
            futures[executor.submit(run_job, job)] = index
    except BrokenExecutor as error:  # a worker died while we were at it
        ends |= dict.fromkeys(jobs.keys() - futures.values(), error)
    while open_ := {future for future in futures if not future.done()}:
        wait(open_, POLL_S, FIRST_COMPLETED)
        _look(relay, futures, ends)
    _look(relay, futures, ends)
    broken = next((end for end in ends.values() if isinstance(end, BrokenExecutor)), None)
    for end in ends.values():
        if isinstance(end, BaseException) and _is_failure(end):
            raise end
    if relay.stopping or any(end == "stopped" for end in ends.values()):
        raise Stopped
    return broken, [index for index, end in ends.items() if isinstance(end, BrokenExecutor)]


def _look(
    relay: Relay, futures: Mapping[Future[str], int], ends: dict[int, BaseException | str]
) -> None:
    done = [future for future in futures if future.done()]  # before the copy: it is whole then
    relay.copy()
    relay.obey()
    if relay.stopping:
        for future in futures:
            future.cancel()  # those that have not begun
    for future in done:
        if (index := futures[future]) in ends:
            continue
        relay.ended(index)
        ends[index] = end = _end_of(future)
        if _is_failure(end):
            message = f"{type(end).__name__}: {end}"
            relay.session.event("alert", model=index, kind="model_failed", message=message)


def _end_of(future: Future[str]) -> BaseException | str:
    try:
        return future.result(0)
    except BaseException as error:
        return error


def _is_failure(end: BaseException | str) -> bool:
    return not isinstance(end, str | BrokenExecutor | CancelledError)
