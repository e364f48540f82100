"""Whether the extension works, and its counters."""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado import web

from forge_notebook.server.base import ForgeHandler


class HealthHandler(ForgeHandler):
    """``GET health``."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.answer({"status": "ok", **self.hub.counters()})
