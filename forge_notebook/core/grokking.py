"""Phases of grokking and its ETA, from the log-rank measure G on training and held-out data.

G is 0 at chance and 1 when the right answer is always ranked first (trainer/metrics.py). The
thresholds and the fit were chosen on 46 runs and are checked on fresh seeds, other moduli and other
tasks by `python -m forge_notebook.trainer.validate_grokking` (seeds from 20000, 30000 and 50000 on,
which chose nothing: 122 of 122 onsets seen, none false in 314 runs that do not grok, which is fewer
than 1 in 100 with 95 % confidence; 2026-11-26). A model that generalizes while it memorizes learns
normally: that is no grokking, and there is no phase. Text tops out at its own entropy, near 0.9, so
a text run never leaves `memorizing`; our trainer gives no training G there, and then there is no
phase.
"""

from __future__ import annotations

import math
from typing import Literal

Phase = Literal["memorizing", "plateau", "grokking", "grokked"]

DONE = 0.98  # training G: memorized; held-out G: grokked
ONSET = 0.2  # held-out G, reached ONSET_EVALUATIONS times in a row
ONSET_EVALUATIONS = 3
NORMAL = 0.5  # held-out G at the moment of memorization, above which nothing was delayed
FIT_FROM = 0.05  # below, the logit is steep noise that makes the ETA come out early
LOGIT_CLIP = 1e-4  # G of 0 or 1 has no logit


class GrokTracker:
    """Folds evaluations into a phase; phases only move forward."""

    def __init__(self) -> None:
        self.phase: Phase | None = None
        self.onset_step: int | None = None
        self.normal = False  # learned without a delay
        self._above: list[int] = []  # steps of the current run of evaluations with G >= ONSET
        self._points: list[tuple[int, float]] = []

    def update(self, step: int, train: float | None, val: float | None) -> Phase | None:
        """Take one evaluation; an unknown or non-finite G changes nothing."""
        if train is None or val is None or not (math.isfinite(train) and math.isfinite(val)):
            return self.phase
        if self._points and step <= self._points[-1][0]:  # a rollback began a new branch
            self._points = [point for point in self._points if point[0] < step]
            self._above = [above for above in self._above if above < step]
        self._points.append((step, val))
        if self.normal:
            return None
        if val >= ONSET:
            self._above.append(step)
        else:
            self._above.clear()
        self.phase = self._next(self.phase or "memorizing", train, val)
        return self.phase

    def _next(self, phase: Phase, train: float, val: float) -> Phase | None:
        if phase == "memorizing" and train >= DONE:
            self.normal = val >= NORMAL
            phase = "plateau"
        if self.normal:
            return None
        if phase == "plateau" and len(self._above) >= ONSET_EVALUATIONS:
            phase = "grokking"
            self.onset_step = self._above[0]
        if phase == "grokking" and val >= DONE:
            phase = "grokked"
        return phase

    def eta_steps(self) -> int | None:
        """Steps until held-out G reaches 0.98, or None outside the phase `grokking`.

        Least squares of logit(G) on the step over the last half of the run.
        """
        if self.phase != "grokking":
            return None
        now = self._points[-1][0]
        half = [
            (step, _logit(val)) for step, val in self._points if step >= now / 2 and val >= FIT_FROM
        ]
        slope, intercept = _line(half)
        if slope <= 0:
            return None
        return max(0, round((_logit(DONE) - intercept) / slope - now))


def _logit(g: float) -> float:
    g = min(max(g, LOGIT_CLIP), 1 - LOGIT_CLIP)
    return math.log(g / (1 - g))


def _line(points: list[tuple[int, float]]) -> tuple[float, float]:
    n = len(points)
    mean_x = sum(x for x, _ in points) / n
    mean_y = sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        return 0.0, mean_y
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return slope, mean_y - slope * mean_x
