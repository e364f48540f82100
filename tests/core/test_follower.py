"""What the live messages say of the models, put together again as a viewer does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forge_notebook.core.follower import IN_METRICS, Follower
from forge_notebook.core.runlog import EVENT, SESSION, Writer

Send = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path) -> tuple[Writer, Follower, Send]:
    folder = tmp_path / "two"
    folder.mkdir()
    writer = Writer(folder / "run.log")
    head = {"id": "two", "name": "n", "time": 10**18, "models": 2, "totalSteps": 100}
    writer.append_json(SESSION, head)
    follower = Follower(folder)

    def send() -> list[dict[str, Any]]:
        while follower.read():
            pass
        return [data for _, data in follower.messages()]

    return writer, follower, send


def test_models_are_told_again_only_for_what_the_metrics_do_not_say(
    run: tuple[Writer, Follower, Send],
) -> None:
    writer, _, send = run
    writer.append_point(1, 0, {"loss": 4.0})
    assert [m["index"] for m in send()[-1]["models"]] == [0, 1]
    writer.append_point(2, 0, {"loss": 3.0})
    assert send()[-1]["models"] == []
    writer.append_point(3, 0, {"val_loss": 3.5})
    assert [(m["index"], m["valLoss"]) for m in send()[-1]["models"]] == [(0, 3.5)]


def test_a_viewer_of_every_message_knows_every_model(run: tuple[Writer, Follower, Send]) -> None:
    writer, follower, send = run
    seen: dict[int, dict[str, Any]] = {}
    for step in range(40):
        # Both models in one message at times: only one of them is that of the metrics.
        for model in range(2) if step % 3 == 0 else [step % 2]:
            writer.append_point(step, model, {"loss": 5.0 / (step + model + 1)})
        if step == 20:
            event = {"event": "model_completed", "time": 10**18, "step": step, "model": 0}
            writer.append_json(EVENT, {**event, "data": {"modelIndex": 0}})
        for message in send():
            metrics = message["metrics"]
            current = seen.get(metrics["currentModel"] - 1) if metrics else None
            if current is not None:
                said = (metrics["currentStep"], metrics["loss"], metrics["grokProgress"])
                current.update(zip(IN_METRICS, said, strict=True))
            seen.update({model["index"]: model for model in message["models"]})
        assert [seen[index] for index in sorted(seen)] == follower.status()["models"]
