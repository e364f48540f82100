"""Benchmarks: each area is a module with ``measure(*, quick, peers) -> list[Row]``.

Every figure is a median of several repetitions, beside a reference measured in the same run: the
machine's speed drifts, a ratio does not.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

AREAS = (
    "hook",
    "durability",
    "control",
    "fanout",
    "trainer",
    "history",
    "ui",
)


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


def as_json(rows: Sequence[Row]) -> dict[str, Any]:
    """The rows with the machine they were measured on."""
    return {
        "machine": platform.platform(),
        "python": platform.python_version(),
        "rows": [{**asdict(row), "ratio": row.ratio, "ok": row.ok} for row in rows],
    }


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    lines = []
    for row in rows:
        goal = (
            "" if row.goal is None else f"goal {'>=' if row.more_is_better else '<='} {row.goal:g}"
        )
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} x {row.reference}"
        verdict = {True: "ok", False: "MISSED", None: ""}[row.ok]
        lines.append(
            f"{row.name:<44} {row.value:>12.4g} {row.unit:<8} {goal:<16} {verdict:<7} {ratio}"
            f"{'  ' + row.note if row.note else ''}"
        )
    return "\n".join(lines)


def median_of(measure: Callable[[], float], times: int) -> float:
    """The median of several measurements."""
    return statistics.median(measure() for _ in range(times))
