"""Logs of trainings that run elsewhere: the same bytes, put here by offset.

``PUT log/<id>?offset=`` is idempotent: what is there already must be equal and is skipped, a hole
is refused. Each answer says how much is there, so a sender that lost one, or its memory, goes on
from there. While a sender keeps calling, its session counts as alive: the log's lock is held here
on its behalf.

Besides Jupyter's own credentials this route takes ingest tokens, which reach nothing else.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from pathlib import Path
from typing import Any

from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.decorator import authorized
from jupyter_server.auth.identity import IdentityProvider
from tornado import web

from forge_notebook.core.catalog import check_session_id
from forge_notebook.core.errors import SessionBusy
from forge_notebook.core.frames import lock
from forge_notebook.core.runlog import EVENT, Reader
from forge_notebook.core.tokens import Grant
from forge_notebook.server.base import MAX_SEQ, ForgeHandler
from forge_notebook.server.grants import BEARER, WRITE_ONLY, Grants

MAX_CHUNK = 4 << 20
LEASE_S = 30.0  # the sender calls each half second, and each 10 s while something is wrong
TAIL = 4096  # bytes whose checksum tells a sender whether it has the same log


class Lease:
    """One log that is being sent: the open, locked file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / "run.log"
        self.control = Reader(folder / "control.log")
        self.timer: asyncio.TimerHandle | None = None
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        if not lock(self._fd, wait_s=0.2):
            os.close(self._fd)
            raise SessionBusy(f"{folder.name} is being written on this server")

    def put(self, offset: int, data: bytes) -> int:
        """Append what is new of ``data``; the log's size. Raises HTTPError 409."""
        size = os.fstat(self._fd).st_size
        if offset > size:
            raise web.HTTPError(409, "the log has %d bytes; nothing may be left out", size)
        known = os.pread(self._fd, min(len(data), size - offset), offset)
        if known != data[: len(known)]:
            raise web.HTTPError(409, "another log is here at offset %d", offset)
        fresh = memoryview(data)[len(known) :]
        while fresh:
            fresh = fresh[os.write(self._fd, fresh) :]
        return os.fstat(self._fd).st_size

    def tail(self, size: int) -> int:
        """Checksum of the last bytes."""
        begin = max(0, size - TAIL)
        return zlib.crc32(os.pread(self._fd, size - begin, begin))

    def commands(self, after: int | None) -> list[dict[str, Any]]:
        """Commands after a seq of the control log; without one, none: they were for another."""
        if after is not None and after < self.control.seq:
            self.control = Reader(self.control.path)
        return [
            {"name": r.data["event"], **r.data["data"]}
            for r in self.control.read()
            if r.kind == EVENT and after is not None and r.seq > after
        ]

    def removed(self) -> bool:
        """Whether somebody deleted the log meanwhile."""
        try:
            return not os.path.samestat(os.fstat(self._fd), os.stat(self.path))
        except OSError:
            return True

    def close(self) -> None:
        """Let go: the session is no longer alive."""
        if self.timer is not None:
            self.timer.cancel()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class IngestHandler(ForgeHandler):
    """``PUT log/<id>?offset=&after=&end=``: answers ``{size, tail, commands, after}``."""

    grant: Grant | None = None  # of an ingest token, where the request came with one

    @property
    def grants(self) -> Grants | None:
        """The ingest tokens; None where the server takes none."""
        grants: Grants | None = self.settings.get("forge_grants")
        return grants

    async def prepare(self) -> None:  # type: ignore[override]
        """An ingest token stands for a user of its own; everything else is Jupyter's matter."""
        if self.grants is not None:
            self.grant = self.grants.of(self.request.headers.get("Authorization", ""))
        await super().prepare()

    def check_xsrf_cookie(self) -> None:
        """A page can make a browser send its cookies, but no token that it does not know. Under a
        Hub the check is the Hub's, which does not know our tokens either."""
        if self.grant is None:
            super().check_xsrf_cookie()

    @property
    def identity_provider(self) -> IdentityProvider:
        """Who says who that is."""
        return super().identity_provider if self.grant is None else BEARER

    @property
    def authorizer(self) -> Authorizer:
        """Who says what that one may do."""
        return super().authorizer if self.grant is None else WRITE_ONLY

    def client(self) -> str:
        """Each ingest token counts for itself, wherever it comes from."""
        return super().client() if self.grant is None else f"ingest {self.grant.id}"

    @property
    def leases(self) -> dict[str, Lease]:
        """The logs that are being sent at present."""
        leases: dict[str, Lease] = self.settings.setdefault("forge_leases", {})
        return leases

    @web.authenticated
    @authorized
    async def put(self, session_id: str) -> None:
        check_session_id(session_id)
        offset = self.integer("offset", 0, 0, MAX_SEQ)
        after = self.integer("after", None, 0, MAX_SEQ)
        end = self.get_query_argument("end", "0")
        if end not in ("0", "1"):
            raise web.HTTPError(400, "end=%r: give 0 or 1", end)
        if len(self.request.body) > MAX_CHUNK:
            raise web.HTTPError(413, "at most %d bytes at once", MAX_CHUNK)
        try:
            answer = await self.hub.in_thread(self._put, session_id, offset, after)
        except OSError as error:
            raise web.HTTPError(507, "the log could not be kept here: %s", error.strerror) from None
        if end == "1":
            self._release(session_id)
        else:
            self._renew(session_id)
        self.answer(answer)

    def _put(self, session_id: str, offset: int, after: int | None) -> dict[str, Any]:
        if self.grant is not None and self.grants is not None:
            self.grants.claim(self.grant, session_id)
            self.grants.charge(self.grant, session_id, offset + len(self.request.body))
        lease = self.leases.get(session_id)
        if lease is not None and lease.removed():
            lease.close()
            lease = None
        if lease is None:
            lease = self.leases[session_id] = Lease(self.hub.catalog.store / session_id)
        size = lease.put(offset, self.request.body)
        commands = lease.commands(after)
        return {
            "size": size,
            "tail": lease.tail(size),
            "commands": commands,
            "after": lease.control.seq,
        }

    def _renew(self, session_id: str) -> None:
        lease = self.leases.get(session_id)
        if lease is not None:
            if lease.timer is not None:
                lease.timer.cancel()
            loop = asyncio.get_running_loop()
            lease.timer = loop.call_later(LEASE_S, self._release, session_id)

    def _release(self, session_id: str) -> None:
        lease = self.leases.pop(session_id, None)
        if lease is not None:
            lease.close()
