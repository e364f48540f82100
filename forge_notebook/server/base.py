"""What the HTTP handlers share: the hub, the envelope, the reading of parameters."""

from __future__ import annotations

import json
import math
import time
from types import TracebackType
from typing import Any, TypeVar

from jupyter_server.base.handlers import APIHandler, JupyterHandler
from tornado import web

from forge_notebook.core.control import CommandRefused
from forge_notebook.core.errors import (
    InvalidCursor,
    InvalidSessionId,
    SessionBusy,
    UnknownMetric,
    UnknownSession,
)
from forge_notebook.core.tokens import BadToken, QuotaExceeded, TokenRefused, UnknownToken
from forge_notebook.core.wire import dumps
from forge_notebook.server.crowd import TooManyOfClient, TooManyViewers
from forge_notebook.server.hub import Hub
from forge_notebook.server.rate import Rates

RESOURCE = "forge_notebook"  # what Jupyter's authorizer is asked about
MAX_SEQ = (1 << 63) - 1

D = TypeVar("D")

_STATUS = {
    InvalidSessionId: 400,
    InvalidCursor: 400,
    UnknownSession: 404,
    UnknownMetric: 404,
    SessionBusy: 409,
    CommandRefused: 409,
    TooManyViewers: 503,
    TooManyOfClient: 429,
    BadToken: 400,
    UnknownToken: 404,
    TokenRefused: 403,
    QuotaExceeded: 413,
}
_CODE = {
    400: "bad_request",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    429: "too_many_requests",
    500: "internal",
    503: "unavailable",
    504: "not_acknowledged",
}


class Discreet(JupyterHandler):
    """Logs what went wrong without the query: a token may stand there."""

    def _request_summary(self) -> str:
        return f"{self.request.method} {self.request.path} ({self.request.remote_ip})"

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """As Tornado does, which would also print the whole request where it was a mistake."""
        if isinstance(value, web.HTTPError):
            super().log_exception(typ, value, tb)
        else:
            self.log.error("Uncaught exception %s", self._request_summary(), exc_info=value)


class ForgeHandler(Discreet, APIHandler):
    """A handler that answers ``{success, data}`` or ``{success: false, error}``."""

    auth_resource = RESOURCE
    _track_activity = False  # a polling dashboard must not keep an idle server from being culled

    @property
    def hub(self) -> Hub:
        """The hub of this server."""
        hub: Hub = self.settings["forge_hub"]
        return hub

    async def prepare(self) -> None:  # type: ignore[override]
        """Authenticate, then count the request. Raises HTTPError 429."""
        await super().prepare()
        rates: Rates | None = self.settings.get("forge_rates")
        if rates is not None and not rates.ready(self.client(), time.monotonic()):
            raise web.HTTPError(429, "at most %g requests per second", rates.hz)

    def client(self) -> str:
        """Whose requests count together."""
        return client_of(self)

    def answer(self, data: Any, status: int = 200) -> None:
        """Finish with the data in SPEC's envelope."""
        self.set_status(status)
        self.finish(dumps({"success": True, "data": data}))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every failure as ``{success: false, error, code}``: a text for a person, a word for a
        program."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, web.HTTPError):
            message = error.log_message or error.reason or self._reason
            if error.log_message and error.args:
                message = error.log_message % error.args
        else:
            message = self._reason
        code = getattr(error.__cause__, "code", None) if error is not None else None
        if status_code == 405:
            verbs = [v for v in self.SUPPORTED_METHODS if hasattr(type(self), v.lower())]
            own = [v for v in verbs if not _unimplemented(getattr(type(self), v.lower()))]
            self.set_header("Allow", ", ".join(own))
        if status_code == 429:
            self.set_header("Retry-After", str(math.ceil(1 / self.settings["forge_rates"].hz)))
        self.set_header("Content-Type", "application/json")
        self.finish(
            dumps(
                {
                    "success": False,
                    "error": message,
                    "code": code or _CODE.get(status_code, "error"),
                }
            )
        )

    def _handle_request_exception(self, error: BaseException) -> None:
        try:
            for kind, status in _STATUS.items():
                if isinstance(error, kind):
                    raise web.HTTPError(status, "%s", str(error)) from error
        except web.HTTPError as refusal:  # Tornado reads the exception being handled
            super()._handle_request_exception(refusal)
        else:
            super()._handle_request_exception(error)

    def integer(self, name: str, default: D, low: int, high: int) -> int | D:
        """A whole number from the query. Raises InvalidCursor naming the field and its range."""
        text = self.get_query_argument(name, None)
        return default if text is None else integer(name, text, low, high)

    def number(self, name: str, default: float) -> float:
        """A number from the query. Raises InvalidCursor naming the field."""
        text = self.get_query_argument(name, None)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise InvalidCursor(f"{name}={text!r}: give a number")
        return value

    def body(self) -> dict[str, Any]:
        """The request's JSON object. Raises HTTPError 400 where it is not one."""
        try:
            value = json.loads(self.request.body)
        except (ValueError, RecursionError):
            raise web.HTTPError(400, "the body is not JSON") from None
        if not isinstance(value, dict):
            raise web.HTTPError(400, "the body must be a JSON object")
        return value


def client_of(handler: JupyterHandler) -> str:
    """Whose requests and sockets count together: an address, and there a user who logged in.
    Jupyter makes up a new name for each request with its one token."""
    user = "" if handler.token_authenticated else getattr(handler.current_user, "username", "")
    return f"{handler.request.remote_ip} {user}"


def _unimplemented(verb: Any) -> bool:
    return verb is web.RequestHandler._unimplemented_method


def integer(name: str, value: Any, low: int, high: int) -> int:
    """A whole number in a range. Raises InvalidCursor naming the field and the range."""
    try:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError  # 1.0 is a whole number in JSON schema
        number = int(value)
    except (TypeError, ValueError):
        number = low - 1
    if not low <= number <= high:
        raise InvalidCursor(f"{name}={value!r}: give a whole number from {low} to {high}")
    return number
