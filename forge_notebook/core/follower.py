"""Follows one session's log and turns its records into wire messages.

The server's hub, the widget's publisher and the command line all use this one: same reader, same
fold, same messages, so all show the same numbers.
"""

from __future__ import annotations

import bisect
import time
from collections import deque
from pathlib import Path
from typing import Any, Literal, NamedTuple

from forge_notebook.core import index
from forge_notebook.core.history import Curves
from forge_notebook.core.runlog import EVENT, POINTS, Reader, Record, Rows, has_writer, read_log
from forge_notebook.core.session import SessionState, alert_mark
from forge_notebook.core.status import ENDED, Status
from forge_notebook.core.throttle import Throttle
from forge_notebook.core.wire import (
    PROGRESS_UPDATE,
    SESSION_STATUS,
    Message,
    ModelStatus,
    SeriesBlock,
    SessionStatus,
    TrainingMetrics,
)

BATCH = 2000  # records folded between two looks at what else is to do
KEPT_METRICS = 1000  # rows of SPEC's history endpoint that are ready in memory
_STATE = ("state", "_events", "_snapshots", "_last_event")  # what is kept of a long session
# A quarter of a message: of the model that they are of, the metrics say it already.
IN_METRICS: tuple[Literal["step", "loss", "grokProgress"], ...] = ("step", "loss", "grokProgress")
INTERNAL_EVENTS = frozenset({"controls"})


class Event(NamedTuple):
    """A lifecycle event as viewers get it; ``before``: status and metrics just before it.

    One that was derived from a row of metrics (``row``) brings that row along: both have its seq.
    """

    seq: int
    name: str
    data: dict[str, Any]
    before: dict[str, Any]
    row: bool = False


class Follower:
    """One session, read as it grows.

    ``read`` folds what is new; ``messages`` hands out what the live viewers have not been told
    yet; ``opening`` and ``since`` tell the same to one that comes late or fell behind.
    """

    def __init__(self, folder: Path, *, keep_rows: int = KEPT_METRICS) -> None:
        self.folder = folder
        self.log = folder / "run.log"
        self.state = SessionState(folder.name)
        self.curves = Curves()
        self.sent = 0  # the seq that the live viewers have been told of
        self._reader = Reader(self.log)
        self._kept = 0  # bytes of the log that the index beside it covers
        self._events: list[Event] = []
        self._models: dict[int, ModelStatus] = {}
        self._snapshots: deque[tuple[int, TrainingMetrics]] = deque(maxlen=keep_rows)
        self._was_alive = True
        self._was_controllable = False
        self._last_event = 0
        self._heard = time.monotonic()  # of this machine: the writer's clock may be another's
        self._stall_told = 0

    def load(self) -> None:
        """Read the whole log that is there now; nothing of it becomes a live message."""
        self._kept = self._thaw()
        while self.read(limit=50_000):
            pass
        self.keep()
        self._changed_models()
        self._was_controllable = self.state.controllable
        self.sent = self.state.seq

    def keep(self) -> None:
        """Write the index beside the log, where so much of it is in none that it is worth it."""
        offset = self._reader.offset
        if offset - self._kept <= max(index.WORTH_BYTES, self._kept // 2):
            return
        state = {name: getattr(self, name) for name in _STATE}
        state["reader"] = self._reader.frozen()
        index.write(self.log, index.Kept(offset, state, self.curves.frozen()))
        self._kept = offset

    def _thaw(self) -> int:
        """Take what another reader kept of this log; how many bytes of it that covers."""
        found = index.read(self.log) if self._reader.offset == 0 else None
        if found is None or found.state["_snapshots"].maxlen != self._snapshots.maxlen:
            return 0
        self.curves.thaw(found.arrays)
        self._reader.thaw(found.state.pop("reader"))
        vars(self).update(found.state)
        return found.offset

    def read(self, limit: int = BATCH) -> int:
        """Fold at most ``limit`` new records; returns how many there were."""
        records = self._reader.read(limit, grouped=True)
        self.state.lost = self._reader.lost
        count = sum(map(_count, records))
        left = count - sum(record.kind != POINTS for record in records)  # rows
        for record in records:
            if record.kind == POINTS:
                self.curves.add(record.seq, record.data)
                self._take(record.seq, Rows.of(record.data), left)
                left -= _count(record)
            else:
                shown = record.kind == EVENT and record.data["event"] not in INTERNAL_EVENTS
                before = self._now() if shown else {}
                self.state.apply(record)
                if shown:
                    self._keep_event(record, before)
        if records:
            self._heard = time.monotonic()
        return count

    def _take(self, seq: int, rows: Rows, left: int) -> None:
        """Fold rows that are the first of ``left``; each of the last leaves a snapshot."""
        at, end = 0, len(rows.steps)
        first_kept = left - (self._snapshots.maxlen or 0)
        while at < end:
            kept = at >= first_kept
            at = self.state.take(seq, rows, at, at + 1 if kept else min(end, first_kept))
            if kept and (metrics := self.state.metrics()) is not None:
                self._snapshots.append((self.state.seq, metrics))
            if self.state.alert is not None:
                self._keep_alert(self.state.seq)

    def _keep_alert(self, seq: int) -> None:
        alert, now = self.state.alert, self._now()
        if alert is not None:
            place = {"time": round(alert.time, 3), "step": alert.step, "model": alert.model}
            self._events.append(Event(seq, "alert", {**alert.payload(), **now, **place}, now, True))
            self._last_event = seq

    def _now(self) -> dict[str, Any]:
        return {"status": self.state.status.value, "metrics": self.state.metrics()}

    def _shown_now(self) -> dict[str, Any]:
        """Status and metrics as viewers get them: a run whose writer is gone is interrupted."""
        now = self._now()
        if self.state.status not in ENDED and not self.alive():
            now["status"] = Status.INTERRUPTED.value
        return now

    def _keep_event(self, record: Record, before: dict[str, Any]) -> None:
        data = record.data
        payload = {
            **data.get("data", {}),
            **self._now(),
            "time": round(data["time"] / 1e9, 3),
            "step": data.get("step"),
            "model": data.get("model"),
        }
        self._events.append(Event(record.seq, data["event"], payload, before))
        self._last_event = record.seq

    def due(self, throttle: Throttle, now: float) -> bool:
        """Whether to tell the live viewers what was read; lifecycle events are never throttled."""
        if self.state.seq <= self.sent:
            return False
        return self._last_event > self.sent or throttle.ready(now)

    def messages(self) -> list[Message]:
        """What the live viewers have not been told yet, in order."""
        after, self.sent = self.sent, self.state.seq
        messages = self.since(after, self.sent)
        if messages:
            messages[-1][1]["models"] = self._changed_models()
        # Records at the end that hold nothing for a viewer: the next message covers them as well.
        self.sent = messages[-1][1]["seq"] if messages else after
        if self.state.controllable and not self._was_controllable:  # no other message says so
            self._was_controllable = True
            messages.append((SESSION_STATUS, dict(self.status())))
        return messages

    def since(self, after: int, until: int) -> list[Message]:
        """Everything with ``after < seq <= until``: progress updates with the points, and each
        lifecycle event in its place among them. Without ``models``."""
        messages: list[Message] = []
        first = bisect.bisect_right(self._events, after, key=lambda event: event.seq)
        for event in self._events[first:]:
            if event.seq > until:
                break
            after = self._add_points(messages, after, event.seq - 1, event.before)
            base = {"sessionId": self.state.id, "seq": event.seq, "fromSeq": after, "models": []}
            if event.row:
                base["series"] = self.curves.between(event.seq - 1, event.seq)
            messages.append((event.name, {**event.data, **base}))
            after = event.seq
        self._add_points(messages, after, until, self._shown_now())
        return messages

    def _add_points(
        self, messages: list[Message], after: int, until: int, state: dict[str, Any]
    ) -> int:
        series = self.curves.between(after, until)
        if not series:
            return after
        messages.append((PROGRESS_UPDATE, self._update(until, after, series, state)))
        return until

    def _update(
        self, seq: int, after: int, series: list[SeriesBlock], state: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "sessionId": self.state.id,
            "seq": seq,
            "fromSeq": after,
            "status": state["status"],
            "metrics": state["metrics"],
            "models": [],
            "series": series,
        }

    def alive(self) -> bool:
        """Whether a process still writes the log."""
        return self.state.status not in ENDED and has_writer(self.log)

    def died(self) -> Message | None:
        """A status message, once, when something happened that stands in no record: the writer
        of an unfinished session is gone, or it wrote nothing for far too long."""
        was, self._was_alive = self._was_alive, self.alive()
        gone = was and not self._was_alive and self.state.status not in ENDED
        stalled = self._stalled() and self._stall_told != self.state.seq
        if stalled:
            self._stall_told = self.state.seq
        return (SESSION_STATUS, dict(self.status())) if gone or stalled else None

    def _stalled(self) -> bool:
        quiet = time.monotonic() - self._heard
        running = self.state.status is Status.RUNNING
        return running and quiet > self.state.watch.stall.limit_s and self._was_alive

    def status(self, *, detail: bool = True) -> SessionStatus:
        """The session now, as viewers get it."""
        state = self.state
        status = state.wire(alive=self.alive(), detail=detail)
        if detail and self._stalled():
            stall = state.stalled(state.seq, state.last_update, state.watch.stall.limit_s)
            status["marks"] = [*status["marks"], alert_mark(state.seq, stall)]
        return status

    def opening(self, after: int | None, points: int = 1000) -> list[Message]:
        """What a new viewer is told first: the status, then the curve since its cursor.

        Everything up to what the live viewers were told (``sent``), so that their next message
        continues it without gap or doubling. Without a cursor, or too far behind for every point,
        the curve is decimated to ``points`` per model and metric.
        """
        status: Message = (SESSION_STATUS, dict(self.status()))
        models = [model.wire() for model in self.state.models]
        if after is None or after > self.sent or not self.curves.is_short(after, self.sent):
            start = after if after is not None and after <= self.sent else 0
            series = self.curves.overview(points, after=start, until=self.sent)
            messages: list[Message] = [
                (PROGRESS_UPDATE, self._update(self.sent, start, series, self._shown_now()))
            ]
        else:
            messages = self.since(after, self.sent)
        if messages:
            messages[-1][1]["models"] = models
        return [status, *messages]

    def acknowledged(self, command_id: str) -> dict[str, Any] | None:
        """The answer to a command, once the training process gave it."""
        for event in reversed(self._events):
            if event.name == "command_ack" and event.data.get("commandId") == command_id:
                return {key: event.data[key] for key in ("commandId", "command", "ok", "message")}
        return None

    def recent_rows(self, limit: int, after: int | None) -> list[dict[str, Any]] | None:
        """SPEC's history: one row of metrics per log call, the newest ``limit``, or the first
        ``limit`` after a cursor. None where that is older than what is kept: ``replay_rows``."""
        if after is not None and self._snapshots and after < self._snapshots[0][0] - 1:
            return None
        rows = [row for row in self._snapshots if after is None or row[0] > after]
        chosen = rows[-limit:] if after is None else rows[:limit]
        return [{**metrics, "seq": seq} for seq, metrics in chosen]

    def _changed_models(self) -> list[ModelStatus]:
        """The models that differ from what was told, in what the metrics do not say as well."""
        changed = []
        for model in self.state.models:
            wire = model.wire()
            known = {**self._models.get(model.index, {})}
            if model.index == self.state.current:
                known |= {name: wire[name] for name in IN_METRICS if name in known}
            if known != wire:
                changed.append(wire)
            self._models[model.index] = wire
        return changed


def _count(record: Record) -> int:
    """How many records this stands for."""
    return len(record.data.steps) if isinstance(record.data, Rows) else 1


def replay_rows(log: Path, limit: int, after: int) -> list[dict[str, Any]]:
    """The first ``limit`` rows of metrics after a cursor, folded again from the log."""
    state = SessionState(log.parent.name)
    rows: list[dict[str, Any]] = []
    for record in read_log(log, grouped=True):
        if record.kind != POINTS:
            state.apply(record)
            continue
        data, at = Rows.of(record.data), 0
        known = min(max(0, after + 1 - record.seq), len(data.steps))  # to the caller
        while at < len(data.steps) and len(rows) < limit:
            at = state.take(record.seq, data, at, known if at < known else at + 1)
            if at > known and (metrics := state.metrics()) is not None:
                rows.append({**metrics, "seq": state.seq})
        if len(rows) >= limit:
            break
    return rows
