"""One model of a session as the fold knows it: its step, its last values, its grokking phase."""

from __future__ import annotations

import math
import re
from functools import lru_cache

from forge_notebook.core.grokking import GrokTracker
from forge_notebook.core.runlog import Rows
from forge_notebook.core.wire import ModelStatus, finite, rounded

_HELD_OUT = re.compile(r"(val|valid|validation|eval|evaluation|test|rank_val)(?![a-z])")


@lru_cache(maxsize=1024)
def held_out(metric: str) -> bool:
    """Whether a metric was measured on data that are not trained on; ``value_loss`` is not one."""
    return _HELD_OUT.match(metric) is not None


class ModelState:
    """One model's place in the session."""

    def __init__(self, index: int, total_steps: int | None) -> None:
        self.index = index
        self.name = f"model {index + 1}"
        self.params: float | None = None
        self.step = 0
        self.total_steps = total_steps
        self.status = "pending"
        self.start_time: float | None = None
        self.end_time: float | None = None
        self.last: dict[str, float] = {}
        self.grok = GrokTracker()
        self.grok_phase: str | None = None

    def take(self, rows: Rows, first: int, end: int) -> None:
        """Fold rows of metrics; of those that hold ``rank_val`` one at a time."""
        if self.status == "pending":
            self.begin(rows.times_ns[first] / 1e9)
        self.step = rows.steps[end - 1]
        newest = [values[end - 1] for values in rows.values]
        self.last.update(zip(rows.names, newest, strict=True))
        if "rank_val" in rows.names:
            self.grok_phase = self.grok.update(
                self.step, self.last.get("rank_train", math.nan), self.last["rank_val"]
            )

    def begin(self, time: float) -> None:
        """Mark the model as the one in training."""
        self.status = "running"
        self.start_time = time

    def end(self, status: str, time: float) -> None:
        """Mark the model as finished, whatever came of it."""
        self.status = status
        self.end_time = time

    @property
    def fraction(self) -> float | None:
        """Share of its steps done, 0 to 1; None where the number of steps is not known."""
        if self.status == "completed":
            return 1.0
        if self.total_steps is None:
            return None
        return min(1.0, max(0, self.step) / self.total_steps)

    @property
    def steps_left(self) -> int | None:
        """Steps still to come; None where the number of steps is not known."""
        if self.status == "completed":
            return 0
        return None if self.total_steps is None else max(0, self.total_steps - self.step)

    def grok_progress(self) -> tuple[float | None, str | None]:
        """Grokking progress in percent and its method.

        ``rank``: the log-rank measure on validation. ``loss``: SPEC's formula on the training
        loss, kept only where nothing was validated: it says nothing of generalization (its AUROC
        over 46 runs was 0.30 to 0.37).
        """
        if "rank_val" in self.last:
            value = finite(self.last["rank_val"])
            return (None if value is None else 100 * min(1.0, max(0.0, value))), "rank"
        if any(map(held_out, self.last)):
            return None, None
        loss = finite(self.last.get("loss"))
        return (None if loss is None else max(0.0, min(100.0, (2.0 - loss) / 2.0 * 100))), "loss"

    def wire(self) -> ModelStatus:
        """The model as viewers get it."""
        progress, _ = self.grok_progress()
        return {
            "index": self.index,
            "name": self.name,
            "params": self.params,
            "step": self.step,
            "totalSteps": self.total_steps,
            "status": self.status,
            "startTime": rounded(self.start_time, 3),
            "endTime": rounded(self.end_time, 3),
            "loss": rounded(self.last.get("loss"), 4),
            "valLoss": rounded(self.last.get("val_loss"), 4),
            "grokProgress": rounded(progress, 1),
            "grokPhase": self.grok_phase,
            "grokOnsetStep": self.grok.onset_step,
        }
