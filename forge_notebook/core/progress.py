"""Time spent training and time still to come, measured from the log's own timestamps."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import accumulate

MAX_SAMPLES = 256
WHOLE_S = 30.0  # half of a short run may hold no evaluation, and then the ETA is 15 % early
MIN_STEPS = 5  # below that one slow first step would be the whole estimate


class Clock:
    """Active seconds (pauses left out) and the steps done at each, thinned to a bounded size."""

    def __init__(self) -> None:
        self.active = 0.0
        self._running_since: float | None = None
        self._base = 0.0
        self._samples: list[tuple[float, int]] = []
        self._stride = 1
        self._skipped = 0
        self._newest: tuple[float, int] = (0.0, 0)

    def start(self, time: float) -> None:
        """Training began or went on at ``time`` (unix seconds)."""
        if self._running_since is None:
            self._running_since = time
            self._base = self.active

    def pause(self, time: float) -> None:
        """Training stood still from ``time`` on."""
        self._advance(time)
        self._running_since = None

    def tick(self, times: Sequence[float], steps: Sequence[int]) -> None:
        """Rows of metrics arrived, each after so many steps of all models together."""
        self.start(times[0])
        base, since = self._base, self._running_since
        assert since is not None
        active = list(accumulate([base + time - since for time in times], max, initial=self.active))
        self.active = active[-1]
        self._newest = (self.active, steps[-1])
        next_one = self._stride - self._skipped - 1
        while next_one < len(times):
            self._samples.append((active[next_one + 1], steps[next_one]))
            if len(self._samples) > MAX_SAMPLES:
                del self._samples[1::2]
                self._stride *= 2
            next_one += self._stride
        self._skipped = self._stride - 1 - (next_one - len(times))

    def _advance(self, time: float) -> None:
        # A clock set back must not take back time already measured.
        if self._running_since is not None:
            self.active = max(self.active, self._base + time - self._running_since)

    def later_half(self) -> tuple[tuple[float, int], tuple[float, int]]:
        """The first and the newest sample of the later half of the run, but of at least 30 s of it.

        Half, because it holds evaluations and checkpoints in their true share, and still follows
        a change of speed.
        """
        half = min(self.active / 2, max(0.0, self.active - WHOLE_S))
        index = bisect.bisect_left(self._samples, half, key=lambda sample: sample[0])
        first = self._samples[index] if index < len(self._samples) else self._newest
        return first, self._newest


def remaining_seconds(clock: Clock, steps_left: int) -> float | None:
    """Steps left times the measured seconds per step; None before ``MIN_STEPS`` steps."""
    (first_time, first_step), (last_time, last_step) = clock.later_half()
    if last_step - first_step < MIN_STEPS:
        (first_time, first_step) = (0.0, 0)
        if last_step < MIN_STEPS:
            return None
    return (last_time - first_time) / (last_step - first_step) * steps_left
