"""The tools that a session can be mirrored to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from forge_notebook.integrations.formats.run import Row, library


class TensorBoard:
    """Event files under a folder; one sub-folder a model after the first."""

    def __init__(self, path: str) -> None:
        from forge_notebook.integrations.formats.tensorboard_files import EventWriter

        library("tensorboard.summary.writer.record_writer")  # missing: say so now
        self._make = EventWriter
        self._path = Path(path)
        self._writers: dict[int, EventWriter] = {}

    def open(self, session: dict[str, Any]) -> None:
        """The files start with their first row."""
        self._folder = self._path / session["id"]

    def rows(self, rows: list[Row]) -> None:
        """Append and flush, so that TensorBoard sees them at its next look."""
        for row in rows:
            if row.model not in self._writers:
                folder = self._folder / f"model_{row.model}" if row.model else self._folder
                self._writers[row.model] = self._make(folder, row.time_ns)
            if row.metrics:
                self._writers[row.model].scalars(row)
        for writer in self._writers.values():
            writer.flush()

    def close(self, status: str) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()


class Wandb:
    """A W&B run, offline unless told otherwise. W&B drops rows whose step goes back: those are
    logged under its next step, with their own as the metrics ``step`` and ``model``."""

    def __init__(self, path: str = "", **options: Any) -> None:
        self._wandb = library("wandb", "export")
        self._options = {"mode": "offline", **({"dir": path} if path else {}), **options}
        self._run: Any = None
        self._last = -math.inf

    def open(self, session: dict[str, Any]) -> None:
        """Start the run."""
        if self._run is None:
            named = {"name": session["name"], "config": session["config"]}
            self._run = self._wandb.init(**{**named, **self._options})

    def rows(self, rows: list[Row]) -> None:
        """Log them."""
        for row in rows:
            if row.step >= max(self._last, 0) and row.model == 0:
                self._last = row.step
                self._run.log(dict(row.metrics), step=row.step)
            else:
                self._run.log({**row.metrics, "step": row.step, "model": row.model})

    def close(self, status: str) -> None:
        """Finish the run."""
        self._run.finish(exit_code=1 if status == "failed" else 0)


class MLflow:
    """An MLflow run by its client API; metrics keep their steps and times (milliseconds)."""

    BATCH = 1000  # MLflow takes no more metrics a call

    def __init__(self, path: str = "", *, experiment: str = "forge_notebook") -> None:
        mlflow = library("mlflow", "export")
        self._entities = mlflow.entities
        self._client = mlflow.MlflowClient(tracking_uri=path or None)
        self._experiment = experiment
        self._run = ""

    def open(self, session: dict[str, Any]) -> None:
        """Start the run, with the config as its parameters."""
        if self._run:
            return
        found = self._client.get_experiment_by_name(self._experiment)
        number = found.experiment_id if found else self._client.create_experiment(self._experiment)
        self._run = self._client.create_run(number, run_name=session["name"]).info.run_id
        for name, value in session["config"].items():
            self._client.log_param(self._run, name, value)

    def rows(self, rows: list[Row]) -> None:
        """Send them in batches."""
        metrics = [
            self._entities.Metric(
                f"model_{row.model}/{name}" if row.model else name,
                value, row.time_ns // 1_000_000, row.step,
            )
            for row in rows
            for name, value in row.metrics.items()
        ]  # fmt: skip
        for at in range(0, len(metrics), self.BATCH):
            self._client.log_batch(self._run, metrics=metrics[at : at + self.BATCH])

    def close(self, status: str) -> None:
        """End the run."""
        ends = {"completed": "FINISHED", "failed": "FAILED"}
        self._client.set_terminated(self._run, ends.get(status, "KILLED"))
