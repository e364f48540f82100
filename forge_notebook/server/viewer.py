"""What the hub asks of whoever watches, and the batch of messages that it hands over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from forge_notebook.core.wire import Message

T = TypeVar("T")


class Batch:
    """Messages that go out together, encoded once for each kind of viewer."""

    __slots__ = ("_forms", "messages")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self._forms: dict[Any, Any] = {}

    def form(self, encoder: Callable[[Sequence[Message]], T]) -> T:
        """What ``encoder`` makes of the messages; made by the first viewer, shared by the rest."""
        try:
            form: T = self._forms[encoder]
        except KeyError:
            form = self._forms[encoder] = encoder(self.messages)
        return form


class Viewer(Protocol):
    """Whoever watches. Two viewers are the same only if they are one object."""

    def send(self, batch: Batch) -> int:
        """Send the messages; must not block or raise. Returns the backlog after it."""

    def backlog(self) -> int:
        """Bytes accepted by ``send`` and not yet taken by the network."""
