"""The opt-in listener for existing dashboards: loopback, listed origins, read-only, no login.

The very handlers of the extension, under another identity: whoever reaches the port is one
anonymous reader. What keeps others out: it binds to loopback, the Host must be local (DNS
rebinding), a page's origin must be listed, and the authorizer lets nobody write.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User
from tornado import web
from tornado.httpserver import HTTPServer

from forge_notebook.core.errors import ForgeError
from forge_notebook.server.conversation import Limits
from forge_notebook.server.hub import Hub
from forge_notebook.server.rate import Rates
from forge_notebook.server.routes import API
from forge_notebook.server.socketio import SocketIOHandler

MAX_HEADER = 16 * 1024
MAX_BODY = 256 * 1024
MAX_HTTP_HZ = 100.0  # of each client, as the extension has it
DRIBBLE_S = 20.0  # for a request's headers, and for its body: who takes longer is cut


class BadOrigin(ForgeError, ValueError):
    """Not an origin: scheme, host and port of a page, nothing else."""

    code = "bad_origin"


class Anybody(IdentityProvider):
    """One anonymous reader, who has to show where its page comes from."""

    def get_user(self, handler: Any) -> User:
        """The reader."""
        return User(username="reader", name="Reader of the open listener")

    def should_check_origin(self, handler: Any) -> bool:
        """Always: the origin is all that tells one page from another here."""
        return True

    @property
    def auth_enabled(self) -> bool:
        """Nobody logs in here."""
        return False


class ReadOnly(Authorizer):
    """Reading only."""

    def is_authorized(self, handler: Any, user: User, action: str, resource: str) -> bool:
        """Whether the action is reading."""
        return action == "read"


def check_origin(text: str) -> str:
    """The origin in lower case, as browsers send it. Raises BadOrigin."""
    parts = urlsplit(text)
    whole = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in ("http", "https") or not parts.netloc or text.rstrip("/") != whole:
        raise BadOrigin(f"{text!r}: give an origin such as http://localhost:3000")
    if "*" in text or "@" in text:
        raise BadOrigin(f"{text!r}: name the origin; there is no pattern")
    return whole.lower()


def application(
    hub: Hub,
    origins: Sequence[str],
    limits: Limits | None = None,
    *,
    compress: bool = True,
    http_hz: float = MAX_HTTP_HZ,
) -> web.Application:
    """The extension's routes for one anonymous reader. Raises BadOrigin. No ingest tokens here."""
    allowed = "|".join(re.escape(check_origin(origin)) for origin in origins)
    identity = Anybody()
    routes: list[Any] = [(f"/api/training/{path}", handler) for path, handler in API]
    routes.append((r"/socket\.io/", SocketIOHandler))
    return web.Application(
        routes,
        forge_hub=hub,
        forge_limits=limits or Limits(),
        forge_rates=Rates(http_hz),
        identity_provider=identity,
        authorizer=ReadOnly(identity_provider=identity),
        base_url="/",
        allow_origin="",
        # Never empty: an empty pattern is no pattern, and would let Jupyter's defaults in.
        allow_origin_pat=rf"(?:{allowed or '(?!)'})\Z",
        allow_remote_access=False,
        local_hostnames=["localhost"],
        allow_unauthenticated_access=False,
        headers={"Vary": "Origin", "X-Content-Type-Options": "nosniff"},
        serverapp=None,
        compress_response=compress,
    )


def listen(app: web.Application, port: int) -> tuple[HTTPServer, int]:
    """Serve on loopback, IPv4 and where there is one IPv6; port 0 takes a free one."""
    sockets = [_bind(socket.AF_INET, "127.0.0.1", port)]
    port = sockets[0].getsockname()[1]
    if socket.has_ipv6:
        with contextlib.suppress(OSError):  # a machine without IPv6 loopback
            sockets.append(_bind(socket.AF_INET6, "::1", port))
    server = HTTPServer(
        app,
        max_header_size=MAX_HEADER,
        max_body_size=MAX_BODY,
        idle_connection_timeout=DRIBBLE_S,
        body_timeout=DRIBBLE_S,
    )
    server.add_sockets(sockets)
    return server, port


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listener = socket.socket(family)  # Tornado's bind_sockets leaks it where the port is taken
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((address, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener
