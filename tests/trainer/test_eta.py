"""The ETA of recorded runs, against what was still to come."""

from pathlib import Path
from typing import Any

import pytest

from forge_notebook.core.runlog import EVENT, POINTS, Record, read_log
from forge_notebook.core.session import SessionState
from forge_notebook.trainer.cognate import CognateTrainer

STEP, EVALUATION, CHECKPOINT = 0.010, 0.080, 0.030  # s; steady, whatever this machine does now
RUNS: dict[str, dict[str, Any]] = {
    "one model": {"model_count": 1},
    "three models": {"model_count": 3},
    "rare evaluations": {"model_count": 1, "eval_interval": 70, "checkpoint_interval": 90},
}


def steady(records: list[Record]) -> list[Record]:
    """The same records at the times of a steady machine."""
    now, steps, timed = 1_000.0, 0, []
    for record in records:
        if record.kind == POINTS:
            step = record.data.step
            now += STEP * max(0, step - steps)
            steps = step
            now += EVALUATION * ("val_loss" in record.data.names)
            record = record._replace(data=record.data._replace(time_ns=int(now * 1e9)))
        elif record.kind == EVENT:
            if record.data["event"] == "model_started":
                steps = 0
            now += CHECKPOINT * (record.data["event"] == "checkpoint_saved")
            record = record._replace(data={**record.data, "time": int(now * 1e9)})
        timed.append(record)
    return timed


@pytest.mark.parametrize("name", RUNS)
def test_eta_is_within_a_tenth_after_a_tenth_of_the_run(name: str, tmp_path: Path) -> None:
    config = {
        "task": "modular", "preset": "onehot", "batch_size": 256, "modulus": 31, "epochs": 1000,
        "max_steps": 400, "eval_interval": 20, "checkpoint_interval": 50, "threads": 1,
        "progress_update_interval": 10, **RUNS[name],
    }  # fmt: skip
    trainer = CognateTrainer(config, store=tmp_path).fit()
    records = steady(list(read_log(tmp_path / trainer.session.id / "run.log")))
    end = records[-1].data["time"] / 1e9
    began = next(r.data["time"] / 1e9 for r in records if r.kind == EVENT)
    state, checked = SessionState("eta"), 0
    for record in records:
        state.apply(record)
        now = state.last_update
        if record.kind != POINTS or not 0.1 <= (now - began) / (end - began) <= 0.95:
            continue
        left, true = state.remaining(), end - now
        assert left is not None
        assert abs(left - true) <= 0.1 * true + EVALUATION, (state.overall, left, true)
        checked += 1
    assert checked > 30
