"""A small, real Cognate trainer. The names are loaded lazily: the configuration needs no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forge_notebook.trainer.cognate import CognateTrainer
    from forge_notebook.trainer.config import ConfigError, TrainingConfig

__all__ = ["CognateTrainer", "ConfigError", "TrainingConfig"]

_HOME = {"CognateTrainer": "cognate", "ConfigError": "config", "TrainingConfig": "config"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
