"""At most so many updates per second, the first at once, the last never dropped."""

from __future__ import annotations


class Throttle:
    """A token bucket: a lone update passes at once, a flood passes at ``rate`` per second.

    It only says when; what waits stays with the caller, so the newest value goes out with the
    next token (the trailing edge). ``burst`` 2, because a strict 100 ms gap beats against a 10 Hz
    producer and makes the newest value wait up to a whole period (measured).
    """

    def __init__(self, rate: float = 10.0, burst: float = 2.0) -> None:
        if not rate > 0:
            raise ValueError(f"rate={rate!r}: give updates per second above 0")
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._last = float("-inf")

    def ready(self, now: float) -> bool:
        """Whether an update may go out at ``now`` (seconds, monotonic); takes the token."""
        if self._last != float("-inf"):
            self._tokens = min(self.burst, self._tokens + (now - self._last) * self.rate)
        self._last = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
