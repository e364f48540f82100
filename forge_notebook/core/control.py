"""The control log: commands on their way up, the one thing that flows against the stream.

Same frames as the run log, in ``control.log`` beside it. Any process may append, so each append
takes the file's lock for its one write. The training process polls it; what it did comes back as
a ``command_ack`` event in the run log.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from forge_notebook.core.errors import ForgeError
from forge_notebook.core.runlog import EVENT, Record, Writer, has_writer, read_log

COMMANDS = ("pause", "resume", "stop", "checkpoint", "set")


class CommandRefused(ForgeError, RuntimeError):
    """The command is unknown, or the session cannot take one any more."""

    code = "command_refused"


def send_command(
    folder: Path,
    name: str,
    args: Mapping[str, Any] | None = None,
    command_id: str | None = None,
) -> str:
    """Append a command to a session's control log; returns the command's id.

    Who sends again after an unclear answer gives the same ``command_id``: it is carried out once.

    Raises CommandRefused for an unknown command and for a session that nobody runs any more.
    """
    if name not in COMMANDS:
        raise CommandRefused(f"unknown command {name!r}; one of {', '.join(COMMANDS)}")
    if not has_writer(folder / "run.log"):
        raise CommandRefused(f"session {folder.name} is not running; nobody would act on {name!r}")
    if command_id and any(r.data["data"]["commandId"] == command_id for r in _commands(folder)):
        return command_id
    command_id = command_id or secrets.token_hex(8)
    writer = Writer(folder / "control.log", wait_s=2.0)
    try:
        writer.append_json(
            EVENT,
            {
                "event": name,
                "time": time.time_ns(),
                "data": {"commandId": command_id, "args": dict(args or {})},
            },
        )
        if writer.error is not None:
            raise CommandRefused(f"{name!r} could not be written: {writer.error}")
    finally:
        writer.abandon()
    return command_id


def _commands(folder: Path) -> Iterator[Record]:
    return (record for record in read_log(folder / "control.log") if record.kind == EVENT)
