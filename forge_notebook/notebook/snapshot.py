"""What a saved notebook keeps of a session beside the picture: enough to paint the card at once.

The server knows the rest by the session's id; a notebook of twenty cards must stay a small file.
"""

from __future__ import annotations

import math
from typing import Any

from forge_notebook.core.follower import Follower
from forge_notebook.core.wire import dumps

# What the card draws before anything else is asked for.
DRAWN = ("loss", "val_loss", "accuracy", "val_accuracy", "rank_val")
ROWS = 120  # of all curves together: about 4 kB as JSON
MARKS = 20
CONFIG_BYTES = 2000
Snapshot = dict[str, Any]


def saved_snapshot(follower: Follower) -> Snapshot:
    """``{status, update}`` as a subscribe would answer, in about 7 kB."""
    (_, status), (_, update) = follower.opening(None, points=2)
    names = [name for name in DRAWN if name in follower.state.metric_names]
    names = names or list(follower.state.metric_names)[:1]
    curves = max(1, len(names) * len(follower.state.models))
    series = follower.curves.overview(max(4, ROWS // curves), metrics=names)
    status["marks"] = status["marks"][-MARKS:]
    if len(dumps(status["config"])) > CONFIG_BYTES:
        status["config"] = {}
    update["series"] = [{**block, **_short(block)} for block in series]
    return {"status": status, "update": update}


def _short(block: Any) -> dict[str, Any]:
    return {
        "time": [round(t, 1) for t in block["time"]],
        "values": [[_digits(v) for v in column] for column in block["values"]],
    }


def _digits(value: float | None) -> float | None:
    if value is None or value == 0:
        return value
    return round(value, 4 - math.floor(math.log10(abs(value))))
