"""The contract as files: what the routes are, and what the messages look like."""

from __future__ import annotations

from pathlib import Path

from jupyter_server.auth.decorator import authorized
from tornado import web

from forge_notebook.server.base import ForgeHandler

FOLDER = Path(__file__).parent
OPENAPI = FOLDER / "rest-api.yml"
EVENTS = FOLDER / "events.schema.json"


class OpenApiHandler(ForgeHandler):
    """``GET openapi.yml``."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.finish(OPENAPI.read_text(), set_content_type="application/yaml")


class EventsHandler(ForgeHandler):
    """``GET events.schema.json``."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.finish(EVENTS.read_text(), set_content_type="application/schema+json")
