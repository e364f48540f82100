"""How a session shows itself in a notebook: a hook, so that recording need not know the widget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Renderer = Callable[[str, str], Any]  # session id, store path -> an object that IPython displays

_renderer: list[Renderer] = []


def set_renderer(renderer: Renderer) -> None:
    """Set what makes the card of a session; the package root does so on import."""
    _renderer[:] = [renderer]


def card(session_id: str, store: str) -> Any:
    """The card of a session. Raises RuntimeError where no renderer was set."""
    if not _renderer:
        raise RuntimeError("no card here: import forge_notebook first")
    return _renderer[0](session_id, store)
