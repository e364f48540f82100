"""Golden messages: what a fixed log becomes on the wire. ``js/tests`` reads the same file.

After a wanted change of the contract: ``FORGE_UPDATE_GOLDEN=1 pytest tests/core/test_golden.py``,
and look at the difference.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from forge_notebook.core.follower import Follower
from forge_notebook.core.runlog import EVENT, SESSION, Writer
from forge_notebook.core.wire import encode

GOLDEN = Path(__file__).parent.parent / "fixtures" / "wire" / "messages.json"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models; a NaN, a checkpoint, a pause, a command, a failure."""
    now = [1_700_000_000_000_000_000]

    def clock() -> int:
        now[0] += 500_000_000
        return now[0]

    monkeypatch.setattr(time, "time_ns", clock)
    folder = tmp_path / "golden-1"
    folder.mkdir()
    writer = Writer(folder / "run.log")

    def event(event: str, step: int | None = None, model: int | None = None, **data: Any) -> None:
        writer.append_json(
            EVENT, {"event": event, "time": clock(), "step": step, "model": model, "data": data}
        )

    writer.append_json(
        SESSION,
        {
            "id": "golden-1", "name": "Golden <b>", "time": clock(), "models": 2, "totalSteps": 20,
            "config": {"learning_rate": 0.1, "note": math.nan}, "host": "here", "pid": 7,
        },
    )  # fmt: skip
    event("controls")
    event("training_started")
    event("model_started", None, 0, modelIndex=0, name="first", params=1234, totalSteps=20)
    writer.append_point(0, 0, {"val_loss": 3.5, "rank_val": 0.25, "rank_train": 0.5})
    for step in range(1, 7):
        writer.append_point(step, 0, {"loss": 4.0 / step, "lr": 0.1})
    event("checkpoint_saved", step=6, model=0, path="/store/golden-1/6.pt")
    writer.append_point(7, 0, {"loss": math.nan, "lr": math.inf})
    event("paused", step=7, model=0)
    event("command_ack", commandId="c1", command="pause", ok=True, message="")
    event("resumed", step=7, model=0)
    writer.append_point(8, 0, {"loss": 0.5, "lr": 0.05})
    event("model_completed", 20, 0, modelIndex=0, currentModel=1, totalModels=2)
    writer.append_point(1, 1, {"loss": 2.0})
    event("training_failed", error="RuntimeError: <i>gone</i>")
    writer.close()
    return folder


def test_the_wire_is_what_the_golden_file_says(log: Path) -> None:
    follower = Follower(log)
    follower.load()
    opening = follower.opening(None)
    live = [*follower.since(0, follower.sent), *follower.opening(10)]
    made = [json.loads(encode(*message)) for message in [*opening, *live]]
    if os.environ.get("FORGE_UPDATE_GOLDEN"):
        GOLDEN.write_text(json.dumps(made, indent=1) + "\n")
    assert made == json.loads(GOLDEN.read_text())


def test_golden_updates_hold_every_point_once(log: Path) -> None:
    follower = Follower(log)
    follower.load()
    cursor, seen = 0, []
    for _, data in follower.since(0, follower.sent):
        assert data["fromSeq"] == cursor
        cursor = data["seq"]
        for block in data.get("series", []):
            seen += block["seq"]
    assert seen == [6, *range(8, 14), 15, 19, 22]
    assert cursor == follower.state.seq
