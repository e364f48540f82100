"""How a session shows itself in a notebook: a hook, so that recording need not know the widget."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

Renderer = Callable[[str, str], Any]  # session id, store path -> an object that IPython displays

_renderer: list[Renderer] = []


def set_renderer(renderer: Renderer) -> None:
    """Set what makes the card of a session; the package root does so on import."""
    _renderer[:] = [renderer]


_turn: list[Callable[[], object]] = []


def main_thread_only() -> bool:
    """Whether this host shows only what the main thread sends: Colab (colabtools 3373, open)."""
    return "google.colab" in sys.modules


def set_turn(turn: Callable[[], object]) -> None:
    """Set what sends the cards their news, where only the main thread can."""
    _turn[:] = [turn]


def taking_turns(log: Callable[..., None]) -> Callable[..., None]:
    """A ``log`` after whose calls the cards get their turn."""

    def log_and_turn(step: int | None = None, **row: Any) -> None:
        log(step, **row)
        for turn in _turn:
            turn()

    return log_and_turn


def card(session_id: str, store: str) -> Any:
    """The card of a session. Raises RuntimeError where no renderer was set."""
    if not _renderer:
        raise RuntimeError("no card here: import forge_notebook first")
    return _renderer[0](session_id, store)
