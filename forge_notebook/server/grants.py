"""Requests that come with an ingest token: who that is, and what it may write.

A token writes the sessions that it began itself, and of those that were here before only the ones
that it names in full. Jupyter's authorizer was asked when the token was made; what it may do since
then is decided here, because an authorizer of a Hub does not know such a user.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User

from forge_notebook.core.tokens import PREFIX, Grant, QuotaExceeded, TokenBook, TokenRefused
from forge_notebook.server.base import RESOURCE

OWNER = "ingest-token"  # in a session's folder: the id of the token that began it
MAX_SESSIONS = 1000
COUNT_S = 30.0


class Bearer(IdentityProvider):
    """Whoever shows an ingest token; asked only by the handler that takes them."""

    def get_user(self, handler: Any) -> User:
        """The token as a user."""
        return User(username=f"ingest-{handler.grant.id}", name=handler.grant.name or "ingest")

    def is_token_authenticated(self, handler: Any) -> bool:
        """Always: no cookie is involved, so no foreign page can make a browser send it."""
        return True


class WriteOnly(Authorizer):
    """Writing our resource, nothing else."""

    def is_authorized(self, handler: Any, user: User, action: str, resource: str) -> bool:
        """Whether it is that."""
        return (action, resource) == ("write", RESOURCE)


BEARER = Bearer()
WRITE_ONLY = WriteOnly(identity_provider=BEARER)


class Grants:
    """The tokens of a store, and how much of it each has filled."""

    def __init__(self, store: Path) -> None:
        self.book = TokenBook(store)
        self._store = store
        self._sizes: dict[str, dict[str, int]] = {}  # token -> session -> bytes
        self._counted = float("-inf")

    def of(self, authorization: str) -> Grant | None:
        """The grant of a header's ingest token, None where it holds none. Raises TokenRefused."""
        kind, _, text = authorization.partition(" ")
        if kind.lower() not in ("token", "bearer") or not text.startswith(PREFIX):
            return None
        return self.book.find(text.strip())

    def claim(self, grant: Grant, session_id: str) -> None:
        """Make the session the token's, where it may have it. Raises TokenRefused, QuotaExceeded.

        Call it outside the event loop: it reads and makes files.
        """
        self._count()
        if not grant.allows(session_id):
            raise TokenRefused(f"this ingest token may not send session {session_id}")
        folder, mine = self._store / session_id, self._sizes.setdefault(grant.id, {})
        if not folder.exists():
            if len(mine) >= MAX_SESSIONS:
                raise QuotaExceeded(f"this ingest token began {MAX_SESSIONS} sessions; no more")
            folder.mkdir(mode=0o700)
            (folder / OWNER).write_text(grant.id)
        elif _owner(folder) != grant.id and session_id not in grant.sessions:
            raise TokenRefused(f"session {session_id} was not begun with this ingest token")
        mine.setdefault(session_id, 0)

    def charge(self, grant: Grant, session_id: str, size: int) -> None:
        """The log is to hold so many bytes. Raises QuotaExceeded where that is too many."""
        mine = self._sizes[grant.id]
        if size > grant.session_bytes:
            raise QuotaExceeded(f"a session of this token may have {grant.session_bytes} bytes")
        total = sum(mine.values()) + max(0, size - mine[session_id])
        if total > grant.total_bytes:
            raise QuotaExceeded(f"this token's sessions may have {grant.total_bytes} bytes")
        mine[session_id] = max(size, mine[session_id])

    def _count(self) -> None:
        """Look at the files now and then: sessions get deleted."""
        if time.monotonic() - self._counted < COUNT_S:
            return
        self._counted, self._sizes = time.monotonic(), {}
        for file in self._store.glob(f"*/{OWNER}"):
            log = file.parent / "run.log"
            size = log.stat().st_size if log.exists() else 0
            self._sizes.setdefault(_owner(file.parent), {})[file.parent.name] = size


def _owner(folder: Path) -> str:
    try:
        return (folder / OWNER).read_text()
    except OSError:
        return ""
