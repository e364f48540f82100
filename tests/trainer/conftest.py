from pathlib import Path
from typing import Any

import pytest

from forge_notebook.trainer.cognate import CognateTrainer
from forge_notebook.trainer.config import TrainingConfig

from .fake_session import FakeSession, Make

QUICK = {  # 1 thread: the order of float sums must not depend on the machine's load
    "task": "modular",
    "preset": "onehot",
    "model_count": 1,
    "batch_size": None,
    "learning_rate": 0.03,
    "weight_decay": 2.0,
    "epochs": 40,
    "eval_interval": 10,
    "threads": 1,
}


@pytest.fixture
def session(tmp_path: Path) -> FakeSession:
    return FakeSession(tmp_path)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A quick trainer that records into a fake session of its own."""
    made = 0

    def build(data: Any = None, **changes: Any) -> tuple[CognateTrainer, FakeSession]:
        nonlocal made
        made += 1
        session = FakeSession(tmp_path / f"session-{made}")
        config = TrainingConfig.from_dict({**QUICK, **changes})
        return CognateTrainer(config, session=session, data=data), session

    return build
