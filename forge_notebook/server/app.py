"""The extension's application: configuration and wiring, nothing else."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool, Float, Integer, TraitError, Unicode, default, validate

from forge_notebook.core.catalog import store_path
from forge_notebook.server.conversation import Limits
from forge_notebook.server.grants import Grants
from forge_notebook.server.hub import Hub
from forge_notebook.server.lifecycle import EVENT_ID, EVENT_SCHEMA, Lifecycle
from forge_notebook.server.page import STATIC, PageHandler, StaticHandler
from forge_notebook.server.rate import Rates
from forge_notebook.server.routes import API
from forge_notebook.server.webhook import Webhook, check_webhook_url


class ForgeNotebookApp(ExtensionApp):
    """Serves the sessions of one store."""

    name = "forge_notebook"
    extension_url = "/forge"
    load_other_extensions = True

    store = Unicode(
        help="Folder of all sessions. Kernels of this server record there (FORGE_STORE)."
    ).tag(config=True)
    max_update_hz = Float(
        10.0, help="Progress updates per second and session; SPEC's 10. Events are not limited."
    ).tag(config=True)

    max_viewers = Integer(
        20_000, min=1, help="Sockets and waiting polls at the same time; above, 503."
    ).tag(config=True)
    max_client_viewers = Integer(
        1000,
        min=1,
        help="Of these, sockets and waiting polls of one client; above, 429. A client is what "
        "max_http_hz says.",
    ).tag(config=True)
    max_requests_hz = Float(
        20.0, min=0.1, help="Requests per second and socket, after a burst; above, they wait."
    ).tag(config=True)
    max_http_hz = Float(
        100.0,
        min=0.1,
        help="HTTP requests per second and client, after a burst of ten seconds' worth; above, "
        "429. A client is an address and, by cookie, a user. Behind a proxy set "
        "ServerApp.trust_xheaders, or all that come through it count as one address.",
    ).tag(config=True)
    ingest_tokens = Bool(
        True, help="Take tokens that can only send logs (forge-notebook token); False: none."
    ).tag(config=True)
    max_subscriptions = Integer(256, min=1, help="Sessions that one socket may follow.").tag(
        config=True
    )

    retain_days = Float(
        0.0, min=0.0, help="Delete sessions that nobody wrote for so many days; 0: never."
    ).tag(config=True)
    retain_dry_run = Bool(
        True, help="Only log which sessions retain_days would delete. Set to False to delete."
    ).tag(config=True)

    webhook_url = Unicode(
        help="Where to POST news (a training ended, an alert, grokking began) as JSON; empty: "
        "nowhere. Such addresses hold a secret: better in a config file than on the command line."
    ).tag(config=True)

    @validate("webhook_url")
    def _check_webhook_url(self, proposal: Any) -> str:
        url = str(proposal["value"])
        try:
            return url and check_webhook_url(url)
        except ValueError as error:
            raise TraitError(str(error)) from None

    @default("store")
    def _default_store(self) -> str:
        return str(store_path())

    def initialize_settings(self) -> None:
        """Make the hub, and hand the store to the kernels by their inherited environment."""
        store = Path(self.store).expanduser()
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.environ["FORGE_STORE"] = str(store)
        self.settings["forge_hub"] = Hub(
            store,
            rate_hz=self.max_update_hz,
            max_viewers=self.max_viewers,
            max_client_viewers=self.max_client_viewers,
        )
        self.settings["forge_limits"] = Limits(
            requests_hz=self.max_requests_hz, subscriptions=self.max_subscriptions
        )
        self.settings["forge_rates"] = Rates(self.max_http_hz)
        self.settings["forge_grants"] = Grants(store) if self.ingest_tokens else None

    def initialize_handlers(self) -> None:
        """Register the routes; ExtensionApp puts ``base_url`` before each."""
        self.handlers += [(f"/api/training/{path}", handler) for path, handler in API]
        self.handlers += [
            ("/forge/?", PageHandler),
            ("/forge/static/(.*)", StaticHandler, {"path": str(STATIC)}),
        ]
        # jupyter_server 2.15 has no such hook: it comes with the first turn of the loop.
        if not hasattr(ExtensionApp, "_start_jupyter_server_extension"):
            server: Any = self.serverapp
            server.io_loop.add_callback(self._start_jupyter_server_extension, server)

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        """Watch the sessions' lifecycle, once the event loop runs."""
        logger = serverapp.event_logger
        if EVENT_ID not in logger.schemas:
            logger.register_event_schema(EVENT_SCHEMA)
        self._webhook = Webhook(self.webhook_url) if self.webhook_url else None
        self._lifecycle = Lifecycle(
            self.settings["forge_hub"],
            tell=None if self._webhook is None else self._webhook.tell,
            emit=lambda data: logger.emit(schema_id=EVENT_ID, data=data),
            active=self._mark_active,
            retain_days=self.retain_days,
            dry_run=self.retain_dry_run,
        )
        self._lifecycle.start()

    def _mark_active(self) -> None:
        """A run that lasts for hours must not have its server culled as idle under it."""
        times = self.settings.setdefault("last_activity_times", {})
        times["forge_notebook"] = datetime.now(timezone.utc)

    async def stop_extension(self) -> None:
        """Stop the tasks and let the viewers go."""
        if hasattr(self, "_lifecycle"):
            await self._lifecycle.stop()
            if self._webhook is not None:
                await self._webhook.stop()
        await self.settings["forge_hub"].stop()
