"""The hub: one tail task for the store, one encoding per session and tick, any number of viewers.

Knows nothing of HTTP or WebSocket: a viewer is anything with ``send(batch)`` and ``backlog()``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from forge_notebook.core.catalog import Catalog
from forge_notebook.core.follower import BATCH, Follower, replay_rows
from forge_notebook.core.wire import Message
from forge_notebook.server.crowd import Crowd
from forge_notebook.server.feed import MAX_BACKLOG, Feed
from forge_notebook.server.lists import SessionLists, deleted
from forge_notebook.server.pulse import Pulse
from forge_notebook.server.turns import Turns
from forge_notebook.server.viewer import Batch, Viewer

log = logging.getLogger(__name__)

T = TypeVar("T")

TICK_S = 0.02  # fstat each 20 ms costs nothing measurable and adds 10 ms to the median latency
LIST_S = 0.5  # at most two updates a second of each session in the list
ALIVE_S = 1.0  # how often a running session's writer is looked for
KEEP_S = 60.0  # how long a session nobody watches stays in memory
AT_ONCE = 16  # viewers told between two looks at the clock
REST = 0.25  # of the time that telling everybody took: the loop is never ours alone


class Hub:
    """Follows the sessions that somebody watches and tells everybody who does."""

    def __init__(
        self,
        store: Path,
        *,
        rate_hz: float = 10.0,
        max_viewers: int = 20_000,
        max_client_viewers: int | None = None,
    ) -> None:
        self.catalog = Catalog(store)
        self.rate_hz = rate_hz
        self.crowd = Crowd(max_viewers, max_client_viewers)
        self.messages_sent = 0
        self.pulse = Pulse()
        self._feeds: dict[str, Feed] = {}
        self._loading: dict[str, asyncio.Task[Feed]] = {}
        self._lists = SessionLists(MAX_BACKLOG)
        self._telling_lists = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._work = asyncio.Event()
        # One thread for everything that reads whole logs: the event loop serves kernels as well.
        self._files = ThreadPoolExecutor(1, thread_name_prefix="forge-files")

    # Life

    def _start_work(self) -> None:
        self._work.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop the tail task and release the long polls."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.pulse.stop()
        for feed in self._feeds.values():
            feed.wake()
        self._files.shutdown(wait=False, cancel_futures=True)

    async def in_thread(self, call: Callable[..., T], *args: Any) -> T:
        """Run something that reads files outside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._files, call, *args)

    # Viewers

    async def feed(self, session_id: str, *, polling: bool = False) -> Feed:
        """The session in memory, loaded if need be. Raises UnknownSession, InvalidSessionId."""
        folder = self.catalog.folder(session_id)
        feed = self._feeds.get(session_id)
        if feed is None:
            if session_id not in self._loading:
                self._loading[session_id] = asyncio.create_task(self._load(session_id, folder))
            feed = await asyncio.shield(self._loading[session_id])
        if not (feed.live or feed.behind or feed.waiters or (polling and feed.polled_lately)):
            # Nobody to tell live: what is new counts as told.
            while feed.follower.read() == BATCH:
                await asyncio.sleep(0)
            feed.follower.messages()
        feed.last_used = time.monotonic()
        self._start_work()
        return feed

    async def _load(self, session_id: str, folder: Path) -> Feed:
        try:
            follower = Follower(folder)
            await self.in_thread(follower.load)
            feed = self._feeds[session_id] = Feed(follower, self.rate_hz)
            return feed
        finally:
            del self._loading[session_id]

    async def subscribe(
        self, viewer: Viewer, session_id: str, after: int | None = None, points: int = 1000
    ) -> None:
        """Tell a viewer the session so far and, from then on, everything that comes."""
        feed = await self.feed(session_id)
        cursor, batch = feed.opened(after, points)
        feed.place(viewer, cursor, self._send(viewer, batch))

    async def subscribe_list(self, viewer: Viewer) -> None:
        """Tell a viewer every session, and each one again when it changes."""
        self._lists.add(viewer)
        await self._tell_lists()
        self._start_work()

    def unsubscribe(self, viewer: Viewer, session_id: str) -> None:
        """Stop telling a viewer of one session (``*``: of the list)."""
        if session_id == "*":
            self._lists.remove(viewer)
        elif feed := self._feeds.get(session_id):
            feed.remove(viewer)

    def forget(self, viewer: Viewer) -> None:
        """The viewer is gone."""
        self._lists.remove(viewer)
        for feed in self._feeds.values():
            feed.remove(viewer)

    async def poll(
        self, session_id: str, after: int, wait_s: float, client: str
    ) -> tuple[int, list[Message]]:
        """The messages after a cursor; waits for one where there is none yet. Raises
        TooManyViewers, TooManyOfClient."""
        feed = await self.feed(session_id, polling=True)
        feed.last_polled = time.monotonic()
        seq, messages = feed.polled(after)
        if wait_s <= 0 or (messages and not feed.silent(after)):
            return seq, messages
        self.crowd.admit(client)
        self.crowd.enter(client)
        try:
            # Told once a second of an interrupted session, and not in a tight loop.
            await feed.wait(min(wait_s, ALIVE_S) if messages else wait_s)
        finally:
            self.crowd.leave(client)
            feed.last_polled = time.monotonic()
        return feed.polled(after)

    async def history(self, session_id: str, limit: int, after: int | None) -> list[Any]:
        """SPEC's history: rows of its 12 fields, the newest, or the first after a cursor."""
        follower = (await self.feed(session_id)).follower
        rows = follower.recent_rows(limit, after)
        if rows is None:
            rows = await self.in_thread(replay_rows, follower.log, limit, after)
        return rows

    async def acknowledgement(
        self, session_id: str, command_id: str, wait_s: float
    ) -> dict[str, Any] | None:
        """What the training process answered to a command; None if it did not in time."""
        feed = await self.feed(session_id)
        deadline = time.monotonic() + wait_s
        while True:
            feed.follower.read()
            self._work.set()
            answer = feed.follower.acknowledged(command_id)
            if answer is not None or time.monotonic() >= deadline:
                return answer
            await asyncio.sleep(TICK_S)

    async def delete(self, session_id: str) -> None:
        """Delete a session. Raises SessionBusy while it is being written."""
        await self.in_thread(self.catalog.delete, session_id)
        feed = self._feeds.pop(session_id, None)
        if feed is not None:
            feed.untold.clear()
            await self._tell(feed.viewers, deleted(session_id))
            feed.wake()

    def counters(self) -> dict[str, int]:
        """What the health endpoint reports."""
        return {
            "sessionsInMemory": len(self._feeds),
            "viewers": len(self.crowd),
            "subscriptions": len(self._lists)
            + sum(len(f.live) + len(f.behind) for f in self._feeds.values()),
            "messagesSent": self.messages_sent,
        }

    # The tail task

    async def _run(self) -> None:
        next_list = next_drop = 0.0
        while True:
            began = time.monotonic()
            try:
                if began >= next_drop:
                    next_drop = began + KEEP_S
                    self._drop_unused()
                if not self._lists and not any(f.watched for f in self._feeds.values()):
                    self._work.clear()
                    await asyncio.wait_for(self._work.wait(), KEEP_S)
                    began = time.monotonic()
                for feed in list(self._feeds.values()):
                    await self._tick(feed)
                if self._lists and time.monotonic() >= next_list:
                    next_list = time.monotonic() + LIST_S
                    await self._tell_lists()
            except asyncio.TimeoutError:
                pass
            except Exception:
                log.exception("forge hub: a round failed; the next one tries again")
            # Where a round takes longer than the update rate allows, the rate falls: nobody waits.
            await asyncio.sleep(max(TICK_S, REST * (time.monotonic() - began)))

    async def _tick(self, feed: Feed) -> None:
        if not feed.watched:
            return
        now = feed.last_used = time.monotonic()
        follower = feed.follower
        while follower.read() == BATCH:
            await asyncio.sleep(0)
        if follower.due(feed.throttle, now):
            before = follower.sent
            if messages := follower.messages():
                await self._broadcast(feed, before, Batch(messages))
        if now >= feed.next_alive:
            feed.next_alive = now + ALIVE_S
            if (message := follower.died()) is not None:
                await self._tell(feed.viewers, message)
                feed.wake()
        if feed.behind:
            await self._catch_up(feed)

    async def _broadcast(self, feed: Feed, before: int, batch: Batch) -> None:
        feed.wake()
        turns = Turns()
        feed.untold = feed.live.copy()  # whoever leaves, or subscribes anew, is taken out of it
        try:
            while feed.untold:
                for _ in range(min(len(feed.untold), AT_ONCE)):
                    viewer, _ = feed.untold.popitem()
                    if self._send(viewer, batch) > MAX_BACKLOG:
                        feed.place(viewer, feed.follower.sent, MAX_BACKLOG + 1)
                await turns.give()
        finally:
            for viewer in list(feed.untold):  # something failed: they catch up
                feed.place(viewer, before, 0)

    async def _catch_up(self, feed: Feed) -> None:
        turns = Turns()
        batches: dict[int, tuple[int, Batch]] = {}  # viewers that fell behind together share it
        for viewer, cursor in list(feed.behind.items()):
            # It may have left, or subscribed again, while others were served.
            if feed.behind.get(viewer) != cursor or viewer.backlog() > 0:
                continue
            if cursor == feed.follower.sent:
                feed.place(viewer, cursor, 0)
                continue
            if cursor not in batches:
                batches[cursor] = feed.missed(cursor)
            cursor, batch = batches[cursor]
            feed.place(viewer, cursor, self._send(viewer, batch))
            await turns.give()

    async def _tell_lists(self) -> None:
        async with self._telling_lists:  # an older list must not overtake a newer one
            sessions, turns = await self.in_thread(self.catalog.sessions), Turns()
            for viewer, batch in self._lists.news(sessions):
                self._send(viewer, batch)
                await turns.give()

    async def _tell(self, viewers: Iterable[Viewer], message: Message) -> None:
        batch, turns = Batch([message]), Turns()
        for viewer in viewers:
            self._send(viewer, batch)
            await turns.give()

    def _send(self, viewer: Viewer, batch: Batch) -> int:
        self.messages_sent += len(batch.messages)
        return viewer.send(batch)

    def _drop_unused(self) -> None:
        old = time.monotonic() - KEEP_S
        for session_id, feed in list(self._feeds.items()):
            if not feed.watched and feed.last_used < old:
                del self._feeds[session_id]
                self._files.submit(_keep, feed.follower)  # nobody reads it any more


def _keep(follower: Follower) -> None:
    try:
        follower.keep()
    except Exception:
        log.exception("forge hub: no index of %s; the log is read instead", follower.folder.name)
