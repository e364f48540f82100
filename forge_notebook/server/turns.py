"""Long work on the event loop, cut into short pieces: the kernels' own channels share that loop."""

from __future__ import annotations

import asyncio
import time

SLICE_S = 0.005
TURNS = 8  # of the loop between two pieces: a kernel's message takes several callbacks in a row


class Turns:
    """Lets others have the event loop after each ``SLICE_S`` of continuous work."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = time.monotonic() + SLICE_S

    async def give(self) -> None:
        """Return at once while there is time left; otherwise after all that waits was served."""
        if time.monotonic() < self._end:
            return
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self._end = time.monotonic() + SLICE_S
