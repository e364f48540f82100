"""The one thread of a kernel that talks to widgets: it reads the run logs and sends what is new.

Only this thread touches a widget after its creation: ipywidgets' state is not safe against a
second writer (measured: skipped and reordered sets). A card sends at most 10 messages a second, all
new points in one; nothing while no view is alive.

On Colab it has no thread: that shows only what the main thread sends. There the rounds are run by
``log``, by the beginning and the end of cells and by the page's own messages, in the main thread.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import Protocol

from IPython.core.getipython import get_ipython

from forge_notebook.recording import display

log = logging.getLogger(__name__)

INTERVAL_S = 0.1  # between two rounds while nobody looks
LOOK_S = 0.05  # while somebody does: one round is a ``stat`` for each card, 10 Hz is the card's


class Card(Protocol):
    """A widget as the publisher sees it."""

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""

    def answer(self, event: str, data: dict[str, object]) -> None:
        """Answer one request of the page."""

    def publish(self) -> None:
        """Send what is new, if anybody looks."""


Request = tuple[Card, str, dict[str, object]]


class Publisher:
    """Serves every card of this kernel; its thread starts with the first."""

    def __init__(self) -> None:
        self._cards: list[Card] = []
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._due = 0.0
        self.in_main_thread = False

    def add(self, card: Card) -> None:
        """Serve a card from now on."""
        with self._lock:
            self._cards.append(card)
            if display.main_thread_only():
                self._take_turns()
            elif self._thread is None:
                self._thread = threading.Thread(target=self._run, name="forge-cards", daemon=True)
                self._thread.start()

    def remove(self, card: Card) -> None:
        """Serve it no longer."""
        with self._lock:
            if card in self._cards:
                self._cards.remove(card)

    def request(self, card: Card, event: str, data: dict[str, object]) -> None:
        """Hand over a message of the page; comes back at once, whatever thread it came on."""
        if self.in_main_thread:
            self._guard(card, lambda: card.answer(event, data))
            self.turn()
        else:
            self._requests.put((card, event, data))

    def turn(self, *_: object) -> None:
        """One round, if it is due and this is the main thread."""
        now = time.monotonic()
        if now < self._due or threading.current_thread() is not threading.main_thread():
            return
        self._due = now + INTERVAL_S
        for card in list(self._cards):
            self._guard(card, card.publish)

    def _take_turns(self) -> None:
        if self.in_main_thread:
            return
        self.in_main_thread = True
        display.set_turn(self.turn)
        if (shell := get_ipython()) is not None:
            for event in ("pre_run_cell", "post_run_cell"):
                shell.events.register(event, self.turn)

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            try:
                card, event, data = self._requests.get(timeout=max(0.0, due - time.monotonic()))
                self._guard(card, lambda: card.answer(event, data))  # noqa: B023
            except queue.Empty:
                cards = list(self._cards)
                watched = any(card.watched for card in cards)
                due = time.monotonic() + (LOOK_S if watched else INTERVAL_S)
                for card in cards:
                    self._guard(card, card.publish)

    def _guard(self, card: Card, call: object) -> None:
        try:
            call()  # type: ignore[operator]
        except Exception:
            log.exception("%r could not be updated; the recording is not concerned", card)


publisher = Publisher()
