"""Where a session stands, and which events move it from one status to another."""

from __future__ import annotations

from enum import Enum

from forge_notebook.core.errors import InvalidTransition


class Status(str, Enum):
    """Where a session stands. ``interrupted`` is never written: a viewer sees that the log has no
    writer any more although it says running."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.STOPPED})
_NEXT = {
    Status.CREATED: {Status.RUNNING, *ENDED},
    Status.RUNNING: {Status.PAUSED, *ENDED},
    Status.PAUSED: {Status.RUNNING, *ENDED},
}
MOVES = {
    "training_started": Status.RUNNING,
    "paused": Status.PAUSED,
    "resumed": Status.RUNNING,
    "training_completed": Status.COMPLETED,
    "training_failed": Status.FAILED,
    "training_stopped": Status.STOPPED,
}


def check_move(now: Status, event: str) -> Status:
    """The status after ``event``. Raises InvalidTransition where that cannot follow ``now``."""
    status = MOVES.get(event, now)
    if event in MOVES and status not in _NEXT.get(now, set()) | {now}:
        raise InvalidTransition(f"a session that is {now.value} cannot take the event {event!r}")
    return status
