"""Whether one model's loss is lost. Nothing here knows how to mend it."""

from __future__ import annotations

import math
from typing import Any

SKIPS = 3  # non-finite steps in a row; each is skipped, and one alone heals
WORSE_THAN_CHANCE = 2.0  # times ln(classes)
HIGH_STEPS = 10  # in a row; full-batch grokking has spikes of a few steps that heal
SPIKE_SIGMA = 6.0
SPIKE_FLOOR = 0.25  # times ln(classes): sigma is almost 0 on a plateau
SMOOTHING = 0.02  # of the running mean: about the last 50 steps
WARMUP = 50  # steps before there is a mean to compare with


class Guard:
    """Watches one model's loss and gradient, one step at a time."""

    def __init__(self, classes: int) -> None:
        self.chance = math.log(classes)
        self.skips = self.high = self.seen = 0
        self.mean = self.variance = 0.0

    def check(self, loss: float, grad_norm: float) -> str | None:
        """Take one step; says what is wrong once it will not heal by itself."""
        finite = math.isfinite(loss) and math.isfinite(grad_norm)
        self.skips = 0 if finite else self.skips + 1
        if self.skips >= SKIPS:
            return f"loss or gradient not finite in {SKIPS} steps in a row"
        if not finite:
            return None
        limit = self._limit()
        self.high = self.high + 1 if loss > limit else 0
        if self.high >= HIGH_STEPS:
            return f"loss above {limit:.2f} in {HIGH_STEPS} steps in a row{self._why(limit)}"
        if not self.high:
            self._learn(loss)
        return None

    def reset(self) -> None:
        """Forget what was seen, after a rollback."""
        self.skips = self.high = self.seen = 0
        self.mean = self.variance = 0.0

    def _limit(self) -> float:
        worst = WORSE_THAN_CHANCE * self.chance
        if self.seen < WARMUP:
            return worst
        spike = max(SPIKE_SIGMA * math.sqrt(self.variance), SPIKE_FLOOR * self.chance)
        return min(worst, self.mean + spike)

    def _why(self, limit: float) -> str:
        if limit == WORSE_THAN_CHANCE * self.chance:
            return " (twice chance)"
        return f" (mean {self.mean:.2f} of the steps before)"

    def _learn(self, loss: float) -> None:
        self.seen += 1
        share = max(SMOOTHING, 1 / self.seen)
        change = loss - self.mean
        self.mean += share * change
        self.variance = (1 - share) * (self.variance + share * change**2)

    def state_dict(self) -> dict[str, Any]:
        """Everything a checkpoint needs."""
        return {key: value for key, value in vars(self).items() if key != "chance"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        vars(self).update(state)
