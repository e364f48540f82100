"""What training needs of a recording session, and the user's callback, which may not disturb it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

ProgressCallback = Callable[[dict[str, Any]], object]


class Command(Protocol):
    """One request from a viewer."""

    name: str
    args: dict[str, Any]

    def ack(self, ok: bool = True, message: str = "") -> None:
        """Tell the viewers what came of it."""
        ...


class SessionLike(Protocol):
    """The part of `recording.Session` that the trainer uses."""

    id: str
    name: str
    folder: Path

    def start(self) -> Any:
        """Record that training starts."""
        ...

    def model_started(self, index: int, *, name: str, params: int, total_steps: int) -> Any:
        """Record which model is trained now."""
        ...

    def log(self, step: int, *, model: int = 0, **metrics: Any) -> Any:
        """Record values; never raises on I/O."""
        ...

    def event(
        self, name: str, /, *, step: int | None = None, model: int | None = None, **data: Any
    ) -> Any:
        """Record something that happened."""
        ...

    def model_completed(self, index: int) -> Any:
        """Record that a model is done."""
        ...

    def next_command(self) -> Command | None:
        """Take the oldest unanswered command; cheap enough for every step."""
        ...

    def send_command(self, name: str, **args: Any) -> Any:
        """Ask for a command as a viewer does."""
        ...

    def metrics(self) -> Any:
        """Fold the newest metrics."""
        ...

    @property
    def widget(self) -> Any:
        """The card."""
        ...

    def finish(self, status: str = "completed", error: str | None = None) -> Any:
        """Record the end."""
        ...


class CallbackHook:
    """Calls the user's function; its exceptions are counted and reported once, never passed on."""

    def __init__(self) -> None:
        self.function: ProgressCallback | None = None
        self.failures = 0

    def __call__(self, session: SessionLike, step: int, model: int) -> None:
        """Hand over the session's metrics (SPEC's 12 fields) after a progress record."""
        if self.function is None:
            return
        try:
            self.function(session.metrics())
        except Exception as error:
            self.failures += 1
            if self.failures == 1:
                message = f"progress callback: {type(error).__name__}: {error}"
                session.event("alert", step=step, model=model, kind="callback", message=message)
