"""A viewer's commands for loops that belong to a framework: wait here, stop and save there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from forge_notebook.recording import Command, Session

POLL_S = 0.02


class Control:
    """Polled once a step. A pause waits inside ``poll``; the rest is for the framework to do."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.stopping = False
        self._paused = False
        self._asked: set[str] = set()

    def poll(self, *, can_save: bool = False) -> set[str]:
        """What to do now: any of ``stop`` and ``checkpoint``."""
        self._asked = set()
        while True:
            command = self.session.next_command()
            if command is not None:
                self._obey(command, can_save)
            elif self._paused and not self.stopping:
                time.sleep(POLL_S)
            else:
                return self._asked | ({"stop"} if self.stopping else set())

    def _obey(self, command: Command, can_save: bool) -> None:
        if command.name == "pause" and not self._paused:
            self._paused = True
            self.session.start()
            self.session.event("paused")
        elif command.name in ("resume", "stop"):
            if self._paused:
                self._paused = False
                self.session.event("resumed")
            self.stopping = self.stopping or command.name == "stop"
        elif command.name == "checkpoint" and can_save:
            self._asked.add("checkpoint")
        elif command.name != "pause":
            command.ack(False, f"this loop does not take {command.name!r}")
            return
        command.ack()

    def end_status(self) -> str:
        """How the session ends when the framework says that training is over."""
        return "stopped" if self.stopping else "completed"


def numbers(
    logs: Mapping[str, Any] | None, renamed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The entries that ``log`` takes (numbers, one-element tensors), some under our names."""
    renamed = renamed or {}
    return {
        renamed.get(name, name): value for name, value in (logs or {}).items() if is_number(value)
    }


def is_number(value: Any) -> bool:
    """Whether ``log`` takes it: a number, or a tensor or array of one element."""
    if isinstance(value, (bool, int, float)):
        return True
    count = getattr(value, "numel", None) or getattr(value, "size", None)
    count = count() if callable(count) else count
    return count == 1 and hasattr(value, "item")


def log_name(name: str) -> str:
    """The name of a metric as ``log`` takes it: ``step`` and ``model`` are its own arguments."""
    return f"logged_{name}" if name in ("step", "model", "self") else name
