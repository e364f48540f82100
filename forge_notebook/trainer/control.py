"""Commands from viewers, obeyed between two steps."""

from __future__ import annotations

import time
from collections.abc import Callable

from forge_notebook.trainer.hooks import Command
from forge_notebook.trainer.run import ModelRun

PAUSE_POLL = 0.05  # s; a paused thread that slept less would cost the kernel CPU for nothing


class Stopped(Exception):  # a way out of the loop, not an error
    """A viewer asked to stop."""


class Control:
    """Takes the session's commands; says when the status of the training changes."""

    def __init__(self, on_status: Callable[[str], None]) -> None:
        self.on_status = on_status
        self.paused = False

    def obey(self, run: ModelRun) -> None:
        """Do all that was asked since the last step; blocks while paused, raises Stopped."""
        self._take(run)
        while self.paused:
            time.sleep(PAUSE_POLL)
            self._take(run)

    def _take(self, run: ModelRun) -> None:
        while (command := run.session.next_command()) is not None:
            if command.name == "stop":
                run.save(wait=True)
                command.ack()
                raise Stopped
            if command.name in ("pause", "resume"):
                self._pause(run, command, command.name == "pause")
            elif command.name == "checkpoint":
                path = run.save(wait=True)
                command.ack(path is not None, "disk" if path is None else path.name)
            elif command.name == "set":
                _set(run, command)
            else:
                command.ack(False, f"unknown command {command.name!r}")

    def _pause(self, run: ModelRun, command: Command, pause: bool) -> None:
        if pause != self.paused:
            self.paused = pause
            run.event("paused" if pause else "resumed")
            self.on_status("paused" if pause else "running")
        command.ack()


def _set(run: ModelRun, command: Command) -> None:
    value = command.args.get("learning_rate")
    if set(command.args) != {"learning_rate"}:
        command.ack(False, "only learning_rate can be set")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 10:
        command.ack(False, f"learning_rate={value!r} is not a number above 0 and at most 10")
    else:
        run.learning_rate = float(value)
        command.ack(True, f"learning_rate {value:g}")
