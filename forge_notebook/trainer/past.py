"""What a session on disk says of a training that did not come to its end."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from forge_notebook.core.catalog import Catalog, store_path
from forge_notebook.core.runlog import has_writer
from forge_notebook.core.status import Status
from forge_notebook.trainer.config import ConfigError, TrainingConfig


@dataclass(frozen=True)
class Past:
    """The configuration of a session of ours, the models that are done, and the steps of all."""

    name: str
    config: TrainingConfig
    completed: set[int]
    steps: dict[int, int]


def recorded(session_id: str, store: Path | str | None = None) -> Past:
    """Fold a session's log. Raises where there is nothing of ours to go on with."""
    catalog = Catalog(Path(store) if store is not None else store_path())
    if has_writer(catalog.folder(session_id) / "run.log"):
        raise ConfigError(f"resume={session_id!r} is not possible: the session is still training")
    state = catalog.state(session_id)
    if state.status is Status.COMPLETED:
        raise ConfigError(f"resume={session_id!r} is not possible: the session is completed")
    known = {field.name for field in fields(TrainingConfig)}
    config = {key: value for key, value in state.config.items() if key in known}
    if "model_count" not in config:
        raise ConfigError(f"resume={session_id!r} is not possible: no session of CognateTrainer")
    completed = {model.index for model in state.models if model.status == "completed"}
    steps = {model.index: model.step for model in state.models}
    return Past(state.name, TrainingConfig.from_dict(config), completed, steps)
