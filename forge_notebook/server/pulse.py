"""One heartbeat task for all connections: no timer for each of ten thousand."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from forge_notebook.server.turns import Turns

log = logging.getLogger(__name__)


class Beating(Protocol):
    """A connection that wants a beat every ``period_s`` seconds."""

    period_s: int

    def beat(self) -> None:
        """Send what shows that the connection lives, or close it where it does not."""


class Pulse:
    """Calls ``beat`` of every registered connection, each in its own second of its period."""

    def __init__(self, *, second: float = 1.0) -> None:
        self._second = second
        self._slots: dict[int, list[set[Beating]]] = {}
        self._places: dict[Beating, set[Beating]] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._places)

    def add(self, connection: Beating) -> None:
        """Begin beating; the first beat comes within one period."""
        slots = self._slots.setdefault(
            connection.period_s, [set() for _ in range(connection.period_s)]
        )
        slot = min(slots, key=len)
        slot.add(connection)
        self._places[connection] = slot
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def remove(self, connection: Beating) -> None:
        """Stop beating; a connection that is not there is left alone."""
        if (slot := self._places.pop(connection, None)) is not None:
            slot.discard(connection)

    async def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        second = 0
        while True:
            await asyncio.sleep(self._second)
            second += 1
            for period, slots in list(self._slots.items()):
                await self._beat(list(slots[second % period]))

    async def _beat(self, connections: list[Beating]) -> None:
        turns = Turns()
        for connection in connections:
            try:
                if connection in self._places:  # it may have left meanwhile
                    connection.beat()
            except Exception:
                log.exception("forge heartbeat: %r failed", connection)
            await turns.give()
