"""One session in memory: its follower, its viewers and how far each of them is."""

from __future__ import annotations

import asyncio
import time

from forge_notebook.core.follower import Follower
from forge_notebook.core.status import ENDED
from forge_notebook.core.throttle import Throttle
from forge_notebook.core.wire import SESSION_STATUS, Message
from forge_notebook.server.viewer import Batch, Viewer

POLLING_S = 2.0
MAX_BACKLOG = 256 * 1024  # bytes waiting for one slow viewer; above, it skips and catches up later
CATCH_UP_RECORDS = 2000  # a viewer that fell behind gets so many at a time: its memory is bounded


class Feed:
    """A session that somebody watches, or did a moment ago."""

    def __init__(self, follower: Follower, rate_hz: float) -> None:
        self.follower = follower
        self.throttle = Throttle(rate_hz)
        self.live: dict[Viewer, None] = {}  # who was told everything up to the follower's ``sent``
        self.untold: dict[Viewer, None] = {}  # of those, whom a broadcast under way will tell yet
        self.behind: dict[Viewer, int] = {}  # who does not read fast enough, and its cursor
        self.waiters: set[asyncio.Future[None]] = set()
        self.last_used = time.monotonic()
        self.last_polled = float("-inf")
        self.next_alive = 0.0

    @property
    def watched(self) -> bool:
        """Whether anybody is there to tell."""
        return bool(self.live or self.behind or self.waiters or self.polled_lately)

    @property
    def viewers(self) -> list[Viewer]:
        """Everybody who subscribed."""
        return [*self.live, *self.behind]

    def place(self, viewer: Viewer, cursor: int, backlog: int) -> None:
        """A viewer was told everything up to its cursor; ``backlog``: what of it is unread."""
        self.remove(viewer)
        if cursor == self.follower.sent and backlog <= MAX_BACKLOG:
            self.live[viewer] = None
        else:
            self.behind[viewer] = cursor

    def remove(self, viewer: Viewer) -> None:
        """A viewer is told no more; one that is not there is left alone."""
        self.live.pop(viewer, None)
        self.untold.pop(viewer, None)
        self.behind.pop(viewer, None)

    @property
    def polled_lately(self) -> bool:
        """Whether somebody polls, who is between two polls now: the update rate holds for him."""
        return time.monotonic() - self.last_polled < POLLING_S

    def wake(self) -> None:
        """Let the long polls answer."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()

    @property
    def interrupted(self) -> bool:
        """Whether the session has not ended and nobody writes it any more."""
        return self.follower.state.status not in ENDED and not self.follower.alive()

    async def wait(self, wait_s: float) -> None:
        """Until there is something to tell, at most ``wait_s`` seconds."""
        waiter = asyncio.get_running_loop().create_future()
        self.waiters.add(waiter)
        try:
            await asyncio.wait_for(waiter, wait_s)
        except asyncio.TimeoutError:
            pass
        finally:
            self.waiters.discard(waiter)

    def silent(self, after: int) -> bool:
        """Whether nothing was recorded after a cursor."""
        return after <= self.follower.sent and not self.follower.since(after, self.follower.sent)

    def polled(self, after: int) -> tuple[int, list[Message]]:
        """What a poll with a cursor gets, and its next cursor."""
        follower = self.follower
        if after > follower.sent or not follower.curves.is_short(after, 1 << 62):
            return follower.sent, follower.opening(after)
        messages: list[Message] = []
        until = after
        while not messages and until < follower.sent:  # a part may hold nothing for viewers
            after, until = until, min(follower.sent, until + CATCH_UP_RECORDS)
            messages = follower.since(after, until)
        if messages:
            messages[-1][1]["models"] = [m.wire() for m in follower.state.models]
            after = messages[-1][1]["seq"]
        elif self.interrupted:  # a WebSocket is told by itself; a poll must be able to see it
            messages = [(SESSION_STATUS, dict(follower.status()))]
        return after, messages

    def opened(self, after: int | None, points: int) -> tuple[int, Batch]:
        """What a new viewer is told first, and its cursor after that: the rest of what it missed
        comes as it reads. All at once was 1 MB each for 200 viewers after a restart."""
        follower = self.follower
        behind = after is not None and after + CATCH_UP_RECORDS < follower.sent
        if after is None or not behind or not follower.curves.is_short(after, follower.sent):
            return follower.sent, Batch(follower.opening(after, points))
        cursor, part = self.missed(after)
        return cursor, Batch([(SESSION_STATUS, dict(follower.status())), *part.messages])

    def missed(self, cursor: int) -> tuple[int, Batch]:
        """The next part of what a viewer missed, and its cursor after that."""
        follower = self.follower
        # Whole parts, the same for everybody: who fell behind at different records shares the next.
        until = min(follower.sent, (cursor // CATCH_UP_RECORDS + 1) * CATCH_UP_RECORDS)
        if until == follower.sent or not follower.curves.is_short(cursor, follower.sent):
            return follower.sent, Batch(follower.opening(cursor))
        messages = follower.since(cursor, until)
        return (messages[-1][1]["seq"] if messages else until), Batch(messages)
