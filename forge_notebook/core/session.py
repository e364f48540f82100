"""The fold: records in, SessionState out. Every viewer's numbers come from here and only here."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from forge_notebook.core.alerts import Alert, Watch
from forge_notebook.core.losswatch import Found
from forge_notebook.core.model import ModelState
from forge_notebook.core.progress import Clock, remaining_seconds
from forge_notebook.core.runlog import EVENT, POINTS, SESSION, Record, Rows
from forge_notebook.core.status import ENDED, MOVES, Status
from forge_notebook.core.wire import (
    Mark,
    SessionStatus,
    TrainingMetrics,
    finite,
    non_finite_name,
    rounded,
)

MAX_MARKS = 500
MAX_MODELS = 1 << 16  # a row names its model in 16 bits


def alert_mark(seq: int, alert: Alert) -> Mark:
    """An alert as it is drawn at a record."""
    return {
        "seq": seq,
        "time": round(alert.time, 3),
        "step": alert.step,
        "model": alert.model,
        "event": "alert",
        "data": alert.payload(),
    }


def _count(value: Any, *, most: int = 1 << 63) -> int | None:
    """The number of something that there is at least one of; None where it is none."""
    return value if isinstance(value, int) and 1 <= value <= most else None


class SessionState:
    """Everything a viewer shows of one session, folded record by record."""

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.seq = 0
        self.name = session_id
        self.status = Status.CREATED
        self.config: dict[str, Any] = {}
        self.host = ""
        self.pid = 0
        self.start_time = 0.0
        self.end_time: float | None = None
        self.last_update = 0.0
        self.error: str | None = None
        self.lost = 0
        self.controllable = False
        self.models: list[ModelState] = []
        self.current = 0
        self.has_points = False
        self.metric_names: dict[str, None] = {}
        self.marks: deque[Mark] = deque(maxlen=MAX_MARKS)
        self.clock = Clock()
        self.watch = Watch()
        self.alert: Alert | None = None  # what the newest record gave rise to
        self._alerts: deque[Alert] = deque()  # at most one a record: the rest waits for the next
        self._row_time: float | None = None  # of the row before, where training went on since
        self._steps = 0  # of all models together
        self._named: set[tuple[str, ...]] = set()  # what metric_names holds

    def apply(self, record: Record) -> None:
        """Fold one record. Never raises on what a log says, however odd."""
        if record.kind == POINTS:
            rows, done = Rows.of(record.data), 0
            while done < len(rows.steps):
                done = self.take(record.seq, rows, done, len(rows.steps))
            return
        self.seq = record.seq
        self.alert = None
        if record.kind == EVENT:
            self._event(record.seq, record.data)
        elif record.kind == SESSION and not record.data.get("again"):
            self._session(record.data)
        elif record.kind == SESSION and not self.start_time:  # the log before this was removed
            self._session(record.data)
            self.status = Status.RUNNING

    def _session(self, data: dict[str, Any]) -> None:
        time = data["time"] / 1e9
        if not self.start_time:
            self.start_time = time
        else:  # resumed by another process: the time between does not count as training
            self.clock.pause(self.last_update)
            self.error = None
            self.end_time = None
        config, pid = data.get("config"), data.get("pid")
        models, total = data.get("models"), data.get("totalSteps")
        self.name = str(data.get("name", self.id))
        self.config = config if isinstance(config, dict) else {}
        self.host = str(data.get("host", ""))
        self.pid = pid if isinstance(pid, int) else 0
        self.status = Status.CREATED
        self.last_update = time
        for index in range(len(self.models), _count(models, most=MAX_MODELS) or 1):
            self.models.append(ModelState(index, _count(total)))

    def model(self, index: int) -> ModelState:
        """The model of that index, added where the log names one that was not announced."""
        while len(self.models) <= index:
            self.models.append(ModelState(len(self.models), None))
        return self.models[index]

    def take(self, seq: int, rows: Rows, first: int, end: int) -> int:
        """Fold some of the rows that begin with ``seq``: from ``first`` up to ``end``, or up to
        the next that gives an alert. Where it stopped."""
        model = self.model(rows.model)
        if self._alerts or "rank_val" in rows.names:  # each of these says something, or may
            end = first + 1
        before, seq_before = self._row_time, self.seq
        times, limit_s, found = self.watch.take(rows, first, end, before)
        end = first + len(times)
        if len(times) > 1:
            before, seq_before = times[-2], seq + end - 2
        self.seq, self._row_time = seq + end - 1, times[-1]
        others = self._steps - model.step
        model.take(rows, first, end)
        self._steps = others + model.step
        self.clock.tick(times, [others + step for step in rows.steps[first:end]])
        self.current, self.has_points, self.last_update = rows.model, True, times[-1]
        if rows.names not in self._named:
            self._named.add(rows.names)
            self.metric_names.update(dict.fromkeys(rows.names))
        if limit_s is not None and before is not None:
            self._mark_alert(seq_before, self.stalled(seq_before, before, limit_s))
        found += self.watch.model(rows.model).onset(model.grok.onset_step)
        self.alert = self._next_alert(found, model) if found or self._alerts else None
        return end

    def _next_alert(self, found: list[tuple[str | None, Found]], model: ModelState) -> Alert:
        """The first of those that wait and of what the newest row gave rise to."""
        self._alerts += [
            Alert(self.seq, self.last_update, model.step, model.index, *said, metric=name)
            for name, said in found
        ]
        alert = self._alerts.popleft()
        self._mark_alert(self.seq, alert)
        return alert

    def stalled(self, seq: int, time: float, limit_s: float) -> Alert:
        """The alert of a gap after the record ``seq``: the same during the gap and after it."""
        message = self.watch.stall.message(limit_s)
        return Alert(seq, time, None, None, "stall", "warning", message)

    def _mark_alert(self, seq: int, alert: Alert) -> None:
        self.marks.append(alert_mark(seq, alert))

    def _event(self, seq: int, data: dict[str, Any]) -> None:
        event, payload = data["event"], data.get("data", {})
        time = data["time"] / 1e9
        self.last_update = time
        if event in MOVES:
            self._move(event, time)
        if event == "training_failed":
            self.error = str(payload.get("error", "failed"))
        elif event == "controls":
            self.controllable = True
        elif event in ("model_started", "model_completed"):
            self._model_event(event, payload.get("modelIndex", data.get("model")), payload, time)
        if event not in ("controls", "command_ack"):
            self.marks.append(
                {
                    "seq": seq,
                    "time": round(time, 3),
                    "step": data.get("step"),
                    "model": data.get("model"),
                    "event": event,
                    "data": payload,
                }
            )

    def _move(self, event: str, time: float) -> None:
        self.status = MOVES[event]
        self._row_time = None  # a pause is no stall
        if self.status is Status.RUNNING:
            self.clock.start(time)
        else:
            self.clock.pause(time)
        if self.status in ENDED:
            self.end_time = time
            for model in self.models:
                if model.status == "running":
                    model.end(self.status.value, time)

    def _model_event(self, event: str, index: Any, payload: dict[str, Any], time: float) -> None:
        # Anybody may record an event of this name, with any data.
        if not isinstance(index, int) or not 0 <= index < MAX_MODELS:
            return
        model = self.model(index)
        if event == "model_completed":
            model.end("completed", time)
            return
        params = payload.get("params")
        model.name = str(payload.get("name", model.name))
        model.params = params if isinstance(params, (int, float)) else None
        model.total_steps = _count(payload.get("totalSteps")) or model.total_steps
        model.begin(time)
        self.current = model.index

    @property
    def overall(self) -> float | None:
        """Overall progress, 0 to 100, each model counting the same (SPEC's formula).

        Exactly 100 once completed; None where the number of steps is not known.
        """
        if self.status is Status.COMPLETED:
            return 100.0
        fractions = [model.fraction for model in self.models]
        if not fractions or None in fractions:
            return None
        return 100.0 * sum(f for f in fractions if f is not None) / len(fractions)

    def remaining(self) -> float | None:
        """Seconds of training still to come, from measured step times; None when not known."""
        if self.status in ENDED:
            return 0.0 if self.status is Status.COMPLETED else None
        left = [model.steps_left for model in self.models]
        if not left or None in left:
            return None
        return remaining_seconds(self.clock, sum(n for n in left if n is not None))

    def metrics(self) -> TrainingMetrics | None:
        """SPEC's 12 fields at the newest record; None before the first row of metrics."""
        if not self.has_points:
            return None
        model = self.models[self.current]
        loss = model.last.get("loss")
        progress, method = model.grok_progress()
        metrics: TrainingMetrics = {
            "loss": rounded(loss, 4),
            "perplexity": None if finite(loss) is None else rounded(math.exp(min(loss, 10.0)), 2),  # type: ignore[type-var, arg-type]
            "grokProgress": rounded(progress, 1),
            "modelParams": model.params,
            "currentStep": model.step,
            "totalSteps": model.total_steps,
            "currentModel": model.index + 1,
            "totalModels": len(self.models),
            "overallProgress": rounded(self.overall, 1),
            "trainingTime": rounded(self.clock.active, 1),
            "estimatedTimeRemaining": rounded(self.remaining(), 1),
            "timestamp": round(self.last_update, 3),
            "extra": {k: finite(v) for k, v in model.last.items() if k != "loss"},
        }
        if method is not None:
            metrics["extra"]["grokMethod"] = method
        if model.grok_phase is not None:
            metrics["extra"]["grokPhase"] = model.grok_phase
        odd = {k: non_finite_name(v) for k, v in model.last.items() if not math.isfinite(v)}
        if odd:
            metrics["nonFinite"] = odd
        return metrics

    def wire(self, *, alive: bool, detail: bool = True) -> SessionStatus:
        """The session as viewers get it. ``alive``: whether its log still has a writer."""
        status = self.status
        if not alive and status not in ENDED:
            status = Status.INTERRUPTED
        out: SessionStatus = {
            "sessionId": self.id,
            "seq": self.seq,
            "name": self.name,
            "status": status.value,
            "startTime": round(self.start_time, 3),
            "endTime": rounded(self.end_time, 3),
            "lastUpdate": round(self.last_update, 3),
            "totalModels": len(self.models),
            "models": [model.wire() for model in self.models],
            "metrics": self.metrics(),
            "metricNames": list(self.metric_names),
            "error": self.error,
            "lost": self.lost,
            "host": self.host,
            "pid": self.pid,
            "controllable": self.controllable and alive and status not in ENDED,
        }
        if detail:
            out["config"] = self.config
            out["marks"] = list(self.marks)
        return out
