"""Commands as the training process gets them: read from the control log, each once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forge_notebook.core.runlog import EVENT, Reader

PAUSE_POLL_S = 0.02
REMEMBERED = 1000  # ids of commands already taken; a command sent twice is carried out once


class Command:
    """A request from a viewer. Whoever carries it out acknowledges it, once."""

    def __init__(
        self, name: str, args: dict[str, Any], command_id: str, answer: Callable[..., None]
    ) -> None:
        self.name = name
        self.args = args
        self.id = command_id
        self._answer = answer

    def ack(self, ok: bool = True, message: str = "") -> None:
        """Tell the viewers what came of it."""
        self._answer("command_ack", commandId=self.id, command=self.name, ok=ok, message=message)


class Inbox:
    """The commands that wait. ``answer`` records an event in the session's log."""

    def __init__(self, log: Path, answer: Callable[..., None]) -> None:
        self._reader = Reader(log, counts_on=False)  # who sends into a new one knows no other
        self._reader.read()  # commands to an earlier writer are not for us
        self._answer = answer
        self._waiting: deque[Command] = deque()
        self._taken: deque[str] = deque(maxlen=REMEMBERED)

    def read(self) -> None:
        """Take what was written since the last call; one ``stat`` where nothing was."""
        for record in self._reader.read():
            if record.kind != EVENT:
                continue
            data = record.data["data"]
            if data["commandId"] not in self._taken:
                self._taken.append(data["commandId"])
                command = Command(
                    record.data["event"], data["args"], data["commandId"], self._answer
                )
                self._waiting.append(command)

    def next(self) -> Command | None:
        """The oldest that waits."""
        return self._waiting.popleft() if self._waiting else None

    def refuse_all(self, why: str) -> None:
        """Answer everything that waits with a refusal."""
        self.read()
        while (command := self.next()) is not None:
            command.ack(False, why)


class Requests:
    """What viewers ask of one loop: ``next`` for a loop that carries commands out itself,
    ``stopping`` for one that pauses and stops only."""

    def __init__(self, log: Path, start: Callable[[], None], event: Callable[..., None]) -> None:
        self._inbox = Inbox(log, event)
        self._start, self._event = start, event
        self.read, self.refuse_all = self._inbox.read, self._inbox.refuse_all
        self.stopped = False
        self._pausing = False
        self._offered = False

    def next(self) -> Command | None:
        """The oldest that waits. The first call tells the viewers that somebody asks."""
        if not self._offered:
            self._offered = True
            self._event("controls")
        return self._inbox.next()

    def stopping(self) -> bool:
        """Whether a viewer asked to stop. While one asked to pause, this waits."""
        while True:
            command = self.next()
            if command is not None:
                self._obey(command)
            elif self.stopped or not self._pausing:
                return self.stopped
            else:
                time.sleep(PAUSE_POLL_S)

    def _obey(self, command: Command) -> None:
        if command.name == "pause":
            if not self._pausing:
                self._start()
                self._event("paused")
            self._pausing = True
        elif command.name in ("resume", "stop"):
            if self._pausing:
                self._event("resumed")
            self._pausing = False
            self.stopped = self.stopped or command.name == "stop"
        else:
            command.ack(False, f"this loop does not take {command.name!r}")
            return
        command.ack()
