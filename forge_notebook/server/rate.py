"""How many HTTP requests a client may make: a bucket for each."""

from __future__ import annotations

from forge_notebook.core.throttle import Throttle

BURST_S = 10.0  # a page that opens, or a client that comes back, may ask for so much at once
MANY = 10_000


class Rates:
    """``hz`` requests a second for each client, after a burst of ten seconds' worth."""

    def __init__(self, hz: float) -> None:
        self.hz = hz
        self._buckets: dict[str, tuple[Throttle, float]] = {}

    def ready(self, client: str, now: float) -> bool:
        """Whether this client may make a request at ``now`` (seconds, monotonic)."""
        if len(self._buckets) >= MANY:
            self._forget(now)
        bucket, _ = self._buckets.get(client) or (Throttle(self.hz, max(1.0, BURST_S * self.hz)), 0)
        self._buckets[client] = (bucket, now)
        return bucket.ready(now)

    def _forget(self, now: float) -> None:
        """Those that were silent for a burst's time have a full bucket, as a new one would."""
        full = now - BURST_S - 1 / self.hz
        self._buckets = {who: kept for who, kept in self._buckets.items() if kept[1] > full}
