"""Benchmarks: each area is a module with ``measure(*, quick, peers) -> list[Row]``.

Every figure is a median of several repetitions, beside a reference measured in the same run: the
machine's speed drifts, a ratio does not.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

AREAS = (
    "hook",
    "durability",
    "control",
    "latency",
    "fanout",
    "trainer",
    "history",
    "ui",
)
LONG = ("soak",)  # only by name: it takes hours
OURS = "ours"  # the reference of a row "peer: what was measured"


@dataclass(frozen=True)
class Row:
    """One measured figure. ``goal`` is an upper bound, or a lower one with ``more_is_better``."""

    name: str
    value: float
    unit: str
    reference: str | None = None
    reference_value: float | None = None
    goal: float | None = None
    more_is_better: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Value over reference."""
        return self.value / self.reference_value if self.reference_value else None

    @property
    def ok(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.more_is_better else self.value <= self.goal


def median_of(measure: Callable[[], float], times: int) -> float:
    """The median of several measurements."""
    return statistics.median(measure() for _ in range(times))
