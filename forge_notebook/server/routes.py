"""Every route of the API, relative to ``api/training/``. ``rest-api.yml`` describes them."""

from __future__ import annotations

from forge_notebook.server.contract import EventsHandler, OpenApiHandler
from forge_notebook.server.control import ControlHandler
from forge_notebook.server.health import HealthHandler
from forge_notebook.server.ingest import IngestHandler
from forge_notebook.server.series import SeriesHandler
from forge_notebook.server.sessions import (
    HistoryHandler,
    MetricsHandler,
    PollHandler,
    SessionHandler,
    SessionsHandler,
    StatusHandler,
)
from forge_notebook.server.socketio import SocketIOHandler
from forge_notebook.server.stream import StreamHandler
from forge_notebook.server.tokens import TokenHandler, TokensHandler

_ID = "([^/]+)"
API: list[tuple[str, type]] = [
    (f"status/{_ID}", StatusHandler),
    (f"metrics/{_ID}", MetricsHandler),
    (f"history/{_ID}", HistoryHandler),
    ("sessions", SessionsHandler),
    (f"sessions/{_ID}", SessionHandler),
    (f"series/{_ID}", SeriesHandler),
    (f"poll/{_ID}", PollHandler),
    (f"control/{_ID}", ControlHandler),
    (f"log/{_ID}", IngestHandler),
    ("tokens", TokensHandler),
    (f"tokens/{_ID}", TokenHandler),
    ("health", HealthHandler),
    (r"openapi\.yml", OpenApiHandler),
    (r"events\.schema\.json", EventsHandler),
    ("stream", StreamHandler),
    (r"socket\.io/", SocketIOHandler),
]
