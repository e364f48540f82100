"""Tokens that can do one thing: send the logs of trainings that run elsewhere.

One JSON file in the store, mode 600, keeps a SHA-256 of each and never a token. A token is 256
random bits, so there is nothing to guess and a plain hash is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from forge_notebook.core.errors import ForgeError
from forge_notebook.core.frames import lock

FILE = ".ingest-tokens.json"
PREFIX = "forge_"
SESSION_BYTES = 1 << 30  # ten million rows of six metrics are 0.9 GB
TOTAL_BYTES = 10 << 30
_NAME = re.compile(r"[A-Za-z0-9 ._:@/-]{0,100}\Z")  # it is shown in terminals and logs
_PATTERN = re.compile(r"[A-Za-z0-9_*-]{1,100}\Z")


class BadToken(ForgeError, ValueError):
    """What a new token was to be is not possible."""

    code = "invalid_parameter"


class UnknownToken(ForgeError, LookupError):
    """There is no token of that id."""

    code = "unknown_token"


class TokenRefused(ForgeError, RuntimeError):
    """The token is unknown, was revoked, or does not reach so far."""

    code = "token_refused"


class QuotaExceeded(ForgeError, RuntimeError):
    """The token's sessions are as large as they may get."""

    code = "quota_exceeded"


@dataclass(frozen=True)
class Grant:
    """What one token may do; sizes in bytes. ``sessions`` are ids, or patterns with ``*``."""

    id: str
    name: str
    created: float
    sha256: str
    sessions: tuple[str, ...]
    session_bytes: int
    total_bytes: int

    def allows(self, session_id: str) -> bool:
        """Whether it may send a session of this id at all."""
        return any(fnmatchcase(session_id, pattern) for pattern in self.sessions)

    def wire(self) -> dict[str, Any]:
        """What may be shown of it."""
        return {
            "tokenId": self.id,
            "name": self.name,
            "created": self.created,
            "sessions": list(self.sessions),
            "sessionBytes": self.session_bytes,
            "totalBytes": self.total_bytes,
        }


class TokenBook:
    """The tokens of one store. Any process may change them; each look sees the newest."""

    def __init__(self, store: Path) -> None:
        self._path = store / FILE
        self._seen: tuple[int, int, int] | None = None
        self._grants: dict[str, Grant] = {}

    def mint(
        self,
        name: str = "",
        *,
        sessions: Sequence[str] = ("*",),
        session_bytes: int = SESSION_BYTES,
        total_bytes: int = TOTAL_BYTES,
    ) -> tuple[Grant, str]:
        """A new token: its grant, and its text, which nobody can show again. Raises BadToken."""
        if not _NAME.match(name):
            raise BadToken("name: give at most 100 letters, digits, spaces and . _ : @ / -")
        if not sessions or not all(_PATTERN.match(one) for one in sessions):
            raise BadToken("sessions: give ids of sessions, or patterns such as 'night-*'")
        if min(session_bytes, total_bytes) < 1:
            raise BadToken("a quota is a number of bytes above 0")
        secret = secrets.token_urlsafe(32)
        grant = Grant(
            secrets.token_hex(4), name, round(time.time(), 3), _hash(secret), tuple(sessions),
            session_bytes, total_bytes,
        )  # fmt: skip
        with self._changing() as grants:
            grants[grant.id] = grant
        return grant, f"{PREFIX}{grant.id}_{secret}"

    def revoke(self, token_id: str) -> Grant:
        """End a token: its next request is refused. Raises UnknownToken."""
        with self._changing() as grants:
            if token_id not in grants:
                raise UnknownToken(f"no token {token_id!r}")
            return grants.pop(token_id)

    def grants(self) -> list[Grant]:
        """All of them, oldest first."""
        return sorted(self._read().values(), key=lambda grant: grant.created)

    def find(self, text: str) -> Grant:
        """The grant of a token. Raises TokenRefused."""
        token_id, _, secret = text.removeprefix(PREFIX).partition("_")
        grant = self._read().get(token_id)
        # Compared also where there is none: how long it takes tells nothing.
        same = hmac.compare_digest(_hash(secret), grant.sha256 if grant else _hash(""))
        if grant is None or not same:
            raise TokenRefused("this ingest token is unknown or was revoked")
        return grant

    def _read(self) -> dict[str, Grant]:
        try:
            at = self._path.stat()
        except FileNotFoundError:
            self._seen, self._grants = None, {}
            return self._grants
        seen = (at.st_ino, at.st_size, at.st_mtime_ns)
        if seen != self._seen:
            listed = [
                Grant(**{**one, "sessions": tuple(one["sessions"])})
                for one in json.loads(self._path.read_text())
            ]
            self._seen, self._grants = seen, {grant.id: grant for grant in listed}
        return self._grants

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Grant]]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        guard = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not lock(guard, wait_s=5.0):
                raise ForgeError("another process is changing the tokens; try again")
            grants = dict(self._read())
            yield grants
            self._write(grants)
        finally:
            os.close(guard)

    def _write(self, grants: dict[str, Grant]) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump([asdict(grant) for grant in grants.values()], file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
