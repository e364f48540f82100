"""Keeping one Hugging Face ``Trainer`` from drawing its progress table."""

from __future__ import annotations

import transformers.trainer
from transformers import TrainerCallback

_TABLE = transformers.trainer.DEFAULT_PROGRESS_CALLBACK


class _NoTable(TrainerCallback):
    def __init__(self) -> None:
        restore_table()


def hide_next_table() -> None:
    """Let the next Trainer of this process draw no progress table."""
    # Trainer picks its table by this name and offers no argument for it.
    transformers.trainer.DEFAULT_PROGRESS_CALLBACK = _NoTable


def restore_table() -> None:
    """Let Trainers draw their table again."""
    transformers.trainer.DEFAULT_PROGRESS_CALLBACK = _TABLE
