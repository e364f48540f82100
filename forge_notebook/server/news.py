"""What is worth a message to somebody who looks elsewhere, found in the sessions' marks."""

from __future__ import annotations

import math
import time
from typing import Any

from forge_notebook.core.session import SessionState, alert_mark
from forge_notebook.core.status import ENDED, Status
from forge_notebook.core.wire import Mark

News = dict[str, Any]
TOLD = {
    "training_completed": "training completed",
    "training_failed": "training failed",
    "training_stopped": "training stopped",
    "alert": "alert",
}
GONE = "the training process ended without finishing this session"


class NewsDesk:
    """Says each thing once. What happened before ``since`` (unix seconds, by the clock of whoever
    recorded it) is old; default now."""

    def __init__(self, since: float | None = None) -> None:
        self._since = time.time() if since is None else since
        self._told: dict[str, set[str]] = {}
        self._heard: dict[str, tuple[int, float]] = {}  # newest record, and when we saw it

    def look(self, state: SessionState, *, alive: bool) -> list[News]:
        """What is new of a session; ``alive``: whether its log has a writer."""
        told = self._told.setdefault(state.id, set())
        found = [_news(state, mark) for mark in self._marks(state, alive)]
        fresh = [news for news in found if news["id"] not in told]
        told.update(news["id"] for news in fresh)
        return fresh

    def forget(self, session_id: str) -> None:
        """A session was deleted."""
        self._told.pop(session_id, None)
        self._heard.pop(session_id, None)

    def _marks(self, state: SessionState, alive: bool) -> list[Mark]:
        marks = [m for m in state.marks if m["event"] in TOLD and m["time"] >= self._since]
        if alive and state.status is Status.RUNNING and self._stalled(state):
            limit_s = state.watch.stall.limit_s
            stall = state.stalled(state.seq, state.last_update, limit_s)
            marks.append(alert_mark(state.seq, stall))
        if not alive and state.status not in ENDED and state.last_update >= self._since:
            marks.append(_gone(state))
        return marks

    def _stalled(self, state: SessionState) -> bool:
        seq, heard = self._heard.get(state.id, (-1, math.inf))
        if seq != state.seq:
            heard = time.monotonic()
            self._heard[state.id] = (state.seq, heard)
        return time.monotonic() - heard > state.watch.stall.limit_s


def _gone(state: SessionState) -> Mark:
    return {
        "seq": state.seq,
        "time": round(state.last_update, 3),
        "step": None,
        "model": None,
        "event": "training_failed",
        "data": {"error": GONE, "status": Status.INTERRUPTED.value},
    }


def _news(state: SessionState, mark: Mark) -> News:
    data = mark["data"]
    grokking = data.get("kind") == "grokking"
    event = "grokking_onset" if grokking else mark["event"]
    said = data.get("message") if mark["event"] == "alert" else data.get("error")
    what = TOLD[mark["event"]] if said is None else f"{TOLD[mark['event']]}: {said}"
    return {
        "id": f"{state.id}-{mark['seq']}-{data.get('id') or event}",
        "event": event,
        "sessionId": state.id,
        "name": state.name,
        "status": data.get("status") or state.status.value,
        "text": f"{state.name}: {said if grokking else what}",
        "time": mark["time"],
        "step": mark["step"],
        "model": mark["model"],
        "kind": data.get("kind"),
        "level": data.get("level"),
        "error": data.get("error"),
        "metrics": state.metrics(),
    }
