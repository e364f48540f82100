"""Turning what people log into floats, without ever waiting for an accelerator."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

# Types that are packed into a record as they are. Grows by those of numpy that people log.
PLAIN: set[type] = {float, int, bool}


def is_deferred(value: Any) -> bool:
    """Whether reading the value would make the host wait for a device."""
    device = getattr(value, "device", None)
    return getattr(device, "type", "cpu") != "cpu" and hasattr(value, "detach")


def to_float(name: str, value: Any) -> float:
    """The value as a float. Raises TypeError naming the metric where it is not one number."""
    if isinstance(value, numbers.Real):
        try:
            number = float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf  # type: ignore[operator]
        PLAIN.add(type(value))
        return number
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "size", None) is not None:
        try:
            return float(item())
        except (TypeError, ValueError, RuntimeError):
            pass
    raise TypeError(
        f"metric {name!r} is {type(value).__name__}; log() takes numbers and one-element tensors"
    )


def floats(row: Mapping[str, Any]) -> dict[str, float]:
    """The row as floats. Raises TypeError naming the first metric that is not one number."""
    return {name: to_float(name, value) for name, value in row.items()}
