"""Live training monitor for Jupyter: record any training loop, watch it anywhere.

>>> import forge_notebook as forge
>>> with forge.session("example", total_steps=2) as session:
...     for step in (1, 2):
...         session.log(step, loss=1.0 / step)
>>> session.status
'completed'

Names load on first use: importing the package costs neither torch nor the widget.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from forge_notebook.recording import display as _display

if TYPE_CHECKING:
    from forge_notebook.integrations.history import History as History
    from forge_notebook.integrations.history import load as load
    from forge_notebook.integrations.listing import sessions as sessions
    from forge_notebook.integrations.mirror import mirror as mirror
    from forge_notebook.integrations.torch_watch import watch_torch as watch_torch
    from forge_notebook.integrations.track import track as track
    from forge_notebook.integrations.transfer import import_runs as import_runs
    from forge_notebook.notebook.widget import watch as watch
    from forge_notebook.recording import Session as session
    from forge_notebook.streaming import PerformanceOptimizer as PerformanceOptimizer
    from forge_notebook.streaming import StreamingIntegration as StreamingIntegration
    from forge_notebook.streaming import TrainingProgressEmitter as TrainingProgressEmitter
    from forge_notebook.trainer import CognateTrainer as CognateTrainer
    from forge_notebook.trainer import TrainingConfig as TrainingConfig

__version__ = "0.1.0"

_PUBLIC = {
    "CognateTrainer": ("forge_notebook.trainer", "CognateTrainer"),
    "PerformanceOptimizer": ("forge_notebook.streaming", "PerformanceOptimizer"),
    "StreamingIntegration": ("forge_notebook.streaming", "StreamingIntegration"),
    "TrainingProgressEmitter": ("forge_notebook.streaming", "TrainingProgressEmitter"),
    "History": ("forge_notebook.integrations.history", "History"),
    "TrainingConfig": ("forge_notebook.trainer", "TrainingConfig"),
    "import_runs": ("forge_notebook.integrations.transfer", "import_runs"),
    "load": ("forge_notebook.integrations.history", "load"),
    "mirror": ("forge_notebook.integrations.mirror", "mirror"),
    "session": ("forge_notebook.recording", "Session"),
    "sessions": ("forge_notebook.integrations.listing", "sessions"),
    "track": ("forge_notebook.integrations.track", "track"),
    "watch": ("forge_notebook.notebook.widget", "watch"),
    "watch_torch": ("forge_notebook.integrations.torch_watch", "watch_torch"),
}
__all__ = [
    "CognateTrainer",
    "History",
    "PerformanceOptimizer",
    "StreamingIntegration",
    "TrainingConfig",
    "TrainingProgressEmitter",
    "__version__",
    "import_runs",
    "load",
    "mirror",
    "session",
    "sessions",
    "track",
    "watch",
    "watch_torch",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'forge_notebook' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _card(session_id: str, store: str) -> Any:
    return importlib.import_module("forge_notebook.notebook.widget").card(session_id, store)


_display.set_renderer(_card)


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext forge_notebook``: the magics ``%forge`` and ``%%forge``."""
    magics = importlib.import_module("forge_notebook.notebook.magics")
    ipython.register_magics(magics.ForgeMagics)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from forge_notebook.server.app import ForgeNotebookApp

    return [{"module": "forge_notebook.server.app", "app": ForgeNotebookApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "forge-notebook"}]
