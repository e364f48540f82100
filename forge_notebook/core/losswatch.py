"""Spikes, divergence and plateaus of one training loss; ``alerts`` gives reasons for each bound."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

WINDOW = 50
SPIKE_SIGMAS = 8.0
MEAN_SIGMAS = 8.0
RELATIVE = 0.2
GIVEN_BACK = 0.5
PLATEAU_ROWS = 2000
PLATEAU_GAIN = 0.01
CHECKPOINTS = 64

Found = tuple[str, str, str]  # kind, level, message


class LossWatch:
    """One training loss of one model. Constant work and memory for each value."""

    def __init__(self) -> None:
        self.rows = 0
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._sum = 0.0
        self._squares = 0.0
        self._first = math.nan  # mean of the first window
        self._best = math.inf  # lowest mean of any window
        self._noise = 0.0  # uncertainty of that mean
        self._quiet_until = 0
        self._diverged = False
        self._course = Course()

    def add(self, value: float) -> list[Found]:
        """Take one finite value; what there is to say of it."""
        found: list[Found] = []
        self.rows += 1
        usual = value
        if len(self._window) == WINDOW:
            mean = self._sum / WINDOW
            if self._is_spike(value, mean):
                usual = mean
                if self.rows >= self._quiet_until:
                    found.append(("spike", "warning", f"{value:.4g} after a mean of {mean:.4g}"))
                self._quiet_until = self.rows + WINDOW
            self._push(value)
            found += self._divergence(self._sum / WINDOW)
        else:
            self._push(value)
        if (flat := self._course.add(usual)) is not None and not self._diverged:
            found.append(flat)
        return found

    def _is_spike(self, value: float, mean: float) -> bool:
        excess = value - mean
        if not excess > RELATIVE * abs(mean):
            return False
        # not **: that raises where the square is no float
        return excess * excess > SPIKE_SIGMAS**2 * self._variance(mean)

    def _variance(self, mean: float) -> float:
        return max(0.0, self._squares / WINDOW - mean * mean)

    def _push(self, value: float) -> None:
        if len(self._window) == WINDOW:
            old = self._window[0]
            self._sum -= old
            self._squares -= old * old
        self._window.append(value)
        self._sum += value
        self._squares += value * value
        if self.rows % WINDOW == 0:  # running sums drift; begin them anew now and then
            self._sum = _total(self._window)
            self._squares = _total(v * v for v in self._window)

    def _divergence(self, mean: float) -> list[Found]:
        if mean < self._best:
            if self._best == math.inf:
                self._first = mean
            self._best = mean
            self._noise = math.sqrt(self._variance(mean) / WINDOW)
        lost = mean - self._best
        bar = GIVEN_BACK * max(self._first - self._best, RELATIVE * abs(self._first))
        if lost <= bar and not self._diverged:
            return []
        noise = max(self._noise, math.sqrt(self._variance(mean) / WINDOW))
        bar = max(bar, MEAN_SIGMAS * noise)
        if self._diverged:
            self._diverged = lost > 0.2 * bar
        elif lost > bar and sorted(self._window)[WINDOW // 2] - self._best > bar:
            self._diverged = True
            return [("divergence", "error", f"the mean rose from {self._best:.4g} to {mean:.4g}")]
        return []


def _total(values: Iterable[float]) -> float:
    """The sum, the same in every Python: that of floats is another one from 3.12 on."""
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf


class Course:
    """The mean of each quarter of a run, from sums kept at a few of its rows."""

    def __init__(self) -> None:
        self._rows = 0
        self._sum = 0.0
        self._stride = PLATEAU_ROWS // 8
        self._sums = [0.0]  # after 0, 1, 2... strides
        self._flat = False

    def add(self, value: float) -> Found | None:
        """Take one value; a plateau, where one begins."""
        self._rows += 1
        self._sum += value
        if self._rows % self._stride:
            return None
        self._sums.append(self._sum)
        if len(self._sums) > CHECKPOINTS:
            del self._sums[1::2]
            self._stride *= 2
        last = len(self._sums) - 1
        return self._judge(last) if last % 4 == 0 and self._rows >= PLATEAU_ROWS else None

    def _judge(self, last: int) -> Found | None:
        half, three = self._sums[last // 2], self._sums[last * 3 // 4]
        rows = self._stride * last // 4
        before, now = (three - half) / rows, (self._sums[last] - three) / rows
        gain = before - now
        if gain > 2 * PLATEAU_GAIN * abs(before):
            self._flat = False
        elif gain < PLATEAU_GAIN * abs(before) and not self._flat:
            self._flat = True
            message = f"{before:.4g} to {now:.4g} in {2 * rows} rows"
            return ("plateau", "info", message)
        return None
