"""The package's own exceptions. Each message says what to do, each ``code`` is for programs."""

from __future__ import annotations


class ForgeError(Exception):
    """Base of every error that this package raises on purpose."""

    code = "refused"


class InvalidSessionId(ForgeError, ValueError):
    """The text is not a session id: it is used as a folder name and in URLs."""

    code = "invalid_session_id"


class UnknownSession(ForgeError, KeyError):
    """No session of that id in the store."""

    code = "unknown_session"

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "unknown session"


class SessionBusy(ForgeError, RuntimeError):
    """Another process is writing this session."""

    code = "session_busy"


class InvalidTransition(ForgeError, RuntimeError):
    """A session cannot go from its status to the one asked for."""

    code = "invalid_transition"


class InvalidCursor(ForgeError, ValueError):
    """A cursor, limit or range is not a number in the accepted range."""

    code = "invalid_parameter"


class UnknownMetric(ForgeError, LookupError):
    """The session has no metric of that name."""

    code = "unknown_metric"
