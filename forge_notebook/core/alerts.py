"""Alerts: what somebody should look at, derived from the records by the fold and stored nowhere.

Every viewer folds the same records and so gets the same alerts, with the same ids, however late it
comes. Kinds, and why the thresholds are what they are (``tests/core/test_alerts.py`` counts hits
and false alarms on the recorded curves in ``tests/fixtures/curves``):

``non_finite``
    A metric is NaN or infinite that was not. Once per metric, until it was finite for
    ``WINDOW`` rows again: a loss that stays NaN is one alert.
``spike``
    A training loss above the ``WINDOW`` values before it by ``SPIKE_SIGMAS`` standard deviations
    and by a fifth of their mean. Eight sigmas, because the losses of small batches are skewed: at
    six, curves of noise gave two false alarms in 16,000 rows. Once per ``WINDOW`` rows.
``divergence``
    The mean of the last ``WINDOW`` training losses gave back more than half of all that was gained
    since the first ``WINDOW`` (or a tenth of where it began, if little was gained), and rose by
    ``MEAN_SIGMAS`` times its own uncertainty. A mean, and half of the values up, so
    that no single batch can be a divergence. Once, until four fifths are made good.
``plateau``
    The mean of the training loss over the last quarter of the run is less than ``PLATEAU_GAIN`` of
    its value below that of the quarter before; looked at from ``PLATEAU_ROWS`` rows on. Quarters
    of the run, because what is slow depends on how long one has been training. Once, until it
    improves by twice as much.
``stall``
    No record for ten times the usual interval, twice the longest gap before, and ``STALL_S``: an
    evaluation or a checkpoint takes longer than ten small steps. Pauses do not count.
``grokking``
    Held-out data begin to be understood after the training data were memorized (``grokking``).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from forge_notebook.core.losswatch import WINDOW, Found, LossWatch
from forge_notebook.core.model import held_out
from forge_notebook.core.runlog import Rows

STALL_FACTOR = 10.0
STALL_S = 30.0
INTERVALS = 64  # of which the usual one is the median


class Alert(NamedTuple):
    """One alert. ``seq`` is the record it is drawn at; with the kind and the place it makes the
    id, which is the same for every viewer."""

    seq: int
    time: float
    step: int | None
    model: int | None
    kind: str
    level: str
    message: str
    metric: str | None = None

    def payload(self) -> dict[str, Any]:
        """The data of an ``alert`` event."""
        place = ["all" if self.model is None else self.model, self.metric or "run", self.seq]
        return {
            "id": "-".join(map(str, [self.kind, *place])),
            "kind": self.kind,
            "level": self.level,
            "message": self.message,
            "metric": self.metric,
            "derived": True,
        }


def watches(metric: str) -> bool:
    """Whether a metric is a training loss: lower is better, and it should not rise."""
    return "loss" in metric and not held_out(metric)


class FiniteWatch:
    """Which metrics of one model are NaN or infinite at present."""

    def __init__(self) -> None:
        self._odd: dict[str, int] = {}  # rows still to be finite before the next alert
        self._seen_finite: set[str] = set()
        self._all_seen: set[tuple[str, ...]] = set()

    def passes(self, rows: Rows, first: int, end: int) -> bool:
        """Whether none of these rows says or changes anything."""
        if self._odd or rows.names not in self._all_seen:
            return False
        # Where a sum is finite, all values are; where they are, it may overflow.
        if math.isfinite(sum([sum(values[first:end]) for values in rows.values])):
            return True
        return all(all(map(math.isfinite, values[first:end])) for values in rows.values)

    def add(self, names: tuple[str, ...], values: Iterable[float]) -> list[tuple[str, Found]]:
        """Take one row."""
        found = [(n, f) for n, v in zip(names, values, strict=True) if (f := self._one(n, v))]
        if self._seen_finite.issuperset(names):
            self._all_seen.add(names)
        return found

    def _one(self, metric: str, value: float) -> Found | None:
        if math.isfinite(value):
            self._seen_finite.add(metric)
            if metric in self._odd:
                self._odd[metric] -= 1
                if self._odd[metric] <= 0:
                    del self._odd[metric]
            return None
        known = metric in self._seen_finite or "loss" in metric or "grad" in metric
        new = metric not in self._odd
        self._odd[metric] = WINDOW
        if not (known and new):
            return None
        return ("non_finite", "error", f"{metric} is {'NaN' if math.isnan(value) else 'infinite'}")


class StallWatch:
    """The usual interval between rows, and the gap that is too long."""

    def __init__(self) -> None:
        self._intervals: deque[float] = deque(maxlen=INTERVALS)
        self._longest = 0.0
        self._rows = 0
        self.limit_s = math.inf

    def add(self, interval_s: float) -> float | None:
        """Take one interval; the limit that it passed, if it was a stall. Zero and less (a clock
        set back) say nothing."""
        if interval_s <= 0:
            return None
        limit_s = self.limit_s
        stalled = interval_s > limit_s
        self._intervals.append(interval_s)
        if interval_s > self._longest:
            self._longest = interval_s
        self._rows += 1
        if self._rows >= 8 and (stalled or self._rows % 16 == 0 or self._rows == 8):
            median = sorted(self._intervals)[len(self._intervals) // 2]
            self.limit_s = max(STALL_FACTOR * median, 2 * self._longest, STALL_S)
        elif 2 * self._longest > self.limit_s:
            self.limit_s = 2 * self._longest
        return limit_s if stalled else None

    def message(self, limit_s: float) -> str:
        """What to say of a gap that is over the limit; the same during it and afterwards."""
        return f"no record for more than {limit_s:.0f} s"


class ModelWatch:
    """All of one model."""

    def __init__(self) -> None:
        self.finite = FiniteWatch()
        self._losses: dict[str, LossWatch] = {}
        self._watched: dict[tuple[str, ...], list[tuple[int, LossWatch]]] = {}
        self._grokked = False

    def losses(self, names: tuple[str, ...]) -> list[tuple[int, LossWatch]]:
        """What watches the training losses among some metrics, each with its place."""
        watched = self._watched.get(names)
        if watched is None:
            watched = self._watched[names] = [
                (index, self._losses.setdefault(name, LossWatch()))
                for index, name in enumerate(names)
                if watches(name)
            ]
        return watched

    def onset(self, step: int | None) -> list[tuple[str | None, Found]]:
        """What there is to say of the step at which grokking began, once."""
        if step is None or self._grokked:
            return []
        self._grokked = True
        return [
            (None, ("grokking", "info", f"held-out data began to be understood at step {step}"))
        ]


class Taken(NamedTuple):
    """What rows of metrics gave rise to: only the last of those that were taken, if any did."""

    times: list[float]  # of those that were taken, in seconds
    stall_limit_s: float | None  # that the gap before the last of them passed
    found: list[tuple[str | None, Found]]  # what it says, and of which metric


class Watch:
    """All of one session: fed by the fold."""

    def __init__(self) -> None:
        self.stall = StallWatch()
        self._models: dict[int, ModelWatch] = {}

    def model(self, index: int) -> ModelWatch:
        """What is known of a model."""
        watch = self._models.get(index)
        if watch is None:
            watch = self._models[index] = ModelWatch()
        return watch

    def take(self, rows: Rows, first: int, end: int, before: float | None) -> Taken:
        """Take rows up to ``end``, or up to one that says something. ``before``: the time of the
        row before them, where training went on since."""
        watch = self.model(rows.model)
        found: list[tuple[str | None, Found]] = []
        while not (passes := watch.finite.passes(rows, first, end)) and end - first > 1:
            end = first + (end - first) // 2
        if not passes:  # this row may say something
            found += watch.finite.add(rows.names, [values[first] for values in rows.values])
        times = [time_ns / 1e9 for time_ns in rows.times_ns[first:end]]
        losses, limit_s = watch.losses(rows.names), None
        for at, time in enumerate(times, first):
            if before is not None:
                limit_s = self.stall.add(time - before)
            before = time
            for column, loss in losses:
                value = rows.values[column][at]
                if math.isfinite(value) and (said := loss.add(value)):
                    found += [(rows.names[column], f) for f in said]
            if found or limit_s is not None:
                del times[at + 1 - first :]
                break
        return Taken(times, limit_s, found)
