"""The wire contract: field names, units and shapes of everything a viewer receives.

Every transport (WebSocket, long poll, widget comm) carries the same messages,
``{"event": name, "data": {...}}``. The TypeScript side is ``js/src/core/wire.ts``; the golden
examples in ``tests/fixtures/wire`` are read by the tests of both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

PROGRESS_UPDATE = "progress_update"
SESSION_STATUS = "session_status"
SESSION_HISTORY = "session_history"
ERROR = "error"
HEARTBEAT = "heartbeat"

MIME_TYPE = "application/vnd.forge-notebook.v1+json"

Number = float | int | None


class TrainingMetrics(TypedDict, total=False):
    """SPEC's 12 fields (units: loss 4 decimals, perplexity 2, percentages 1, seconds 1) and ours.

    A value that is not known is ``None``. ``extra`` holds the last value of every other metric;
    ``nonFinite`` names the fields that are ``None`` because the value was NaN or infinite.
    """

    loss: Number
    perplexity: Number
    grokProgress: Number
    modelParams: Number
    currentStep: Number
    totalSteps: Number
    currentModel: int
    totalModels: int
    overallProgress: Number
    trainingTime: Number
    estimatedTimeRemaining: Number
    timestamp: float
    extra: dict[str, float | int | str | None]
    nonFinite: dict[str, str]


class SeriesBlock(TypedDict, total=False):
    """Columnar points of one model: row i of every list belongs together.

    ``values[c][i]`` is column c; ``None`` where it is not finite, and then ``nonFinite`` holds
    ``[c, i, "NaN" | "Infinity" | "-Infinity"]``. ``decimated``: min/max of
    buckets, not every point.
    """

    model: int
    columns: list[str]
    seq: list[int]
    step: list[int]
    time: list[float]
    values: list[list[float | None]]
    nonFinite: list[tuple[int, int, str]]
    decimated: bool


class ModelStatus(TypedDict):
    """One model of a session, as the viewers show it."""

    index: int
    name: str
    params: Number
    step: int
    totalSteps: Number
    status: str
    startTime: Number
    endTime: Number
    loss: Number
    valLoss: Number
    grokProgress: Number
    grokPhase: str | None
    grokOnsetStep: Number


class Mark(TypedDict):
    """An event worth drawing on the curve."""

    seq: int
    time: float
    step: Number
    model: Number
    event: str
    data: dict[str, Any]


class SessionStatus(TypedDict, total=False):
    """All that is known of a session apart from its curve."""

    sessionId: str
    seq: int
    name: str
    status: str
    config: dict[str, Any]
    startTime: float
    endTime: Number
    lastUpdate: float
    totalModels: int
    models: list[ModelStatus]
    metrics: TrainingMetrics | None
    metricNames: list[str]
    marks: list[Mark]
    error: str | None
    lost: int
    host: str
    pid: int
    controllable: bool


Message = tuple[str, dict[str, Any]]


def non_finite_name(value: float) -> str:
    """The name of a NaN or infinity, as JavaScript prints it."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def finite(value: float | None) -> float | None:
    """The value, or ``None`` where JSON has no way to write it."""
    return value if value is not None and math.isfinite(value) else None


def rounded(value: float | None, digits: int) -> float | None:
    """The finite value rounded, or ``None``."""
    value = finite(value)
    return None if value is None else round(value, digits)


def jsonable(value: Any) -> Any:
    """A copy that every JSON reader accepts: text keys, NaN and infinities by name."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else non_finite_name(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [jsonable(item) for item in value]
    return str(value)


def dumps(value: Any) -> str:
    """Compact JSON. Raises ValueError on NaN: they are data and must have been marked before."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def encode(event: str, data: Mapping[str, Any]) -> str:
    """One message as text."""
    return dumps({"event": event, "data": data})
