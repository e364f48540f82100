"""Ray Tune: one session for each trial, written by the driver. Ray Train: ``ray_train``."""

from __future__ import annotations

from typing import Any

from ray.tune.logger import LoggerCallback

from forge_notebook.integrations.control import numbers
from forge_notebook.recording import Session

BOOKKEEPING = frozenset(
    {"timestamp", "time_this_iter_s", "time_total_s", "pid", "time_since_restore", "done",
     "iterations_since_restore", "training_iteration", "should_checkpoint"}
)  # fmt: skip


def reported(result: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a report, without Ray's own bookkeeping."""
    return {name: value for name, value in numbers(result).items() if name not in BOOKKEEPING}


class ForgeTuneCallback(LoggerCallback):
    """``tune.RunConfig(callbacks=[ForgeTuneCallback()])``: a session for each trial.

    The step is the trial's ``training_iteration``. Ray stops trials, so no viewer is offered
    controls.
    """

    def __init__(self, name: str = "tune", *, total_steps: int | None = None) -> None:
        self._name = name
        self._total = total_steps
        self.sessions: dict[str, Session] = {}

    def log_trial_start(self, trial: Any) -> None:
        """Start the trial's session; a trial that Ray restarts goes on in its own."""
        if trial.trial_id not in self.sessions:
            self.sessions[trial.trial_id] = Session(
                f"{self._name} {trial.trial_id}", config=trial.config, total_steps=self._total
            )

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Record what the trial reported."""
        if row := reported(result):
            self.sessions[trial.trial_id].log(result.get("training_iteration"), **row)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """End the trial's session."""
        if failed:
            self.sessions[trial.trial_id].finish("failed", f"trial {trial.trial_id} failed in Ray")
        else:
            self.sessions[trial.trial_id].finish()
