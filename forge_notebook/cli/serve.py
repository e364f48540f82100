"""``forge-notebook serve``: the sessions of the store for an existing dashboard, read-only."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from typing import Any

from forge_notebook.core.catalog import store_path


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "serve",
        help="serve the sessions to existing dashboards: loopback only, read-only, no login",
    )
    parser.add_argument("--port", type=int, default=5001, help="default 5001; 0 takes a free one")
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a page that may connect, such as http://localhost:3000; may be given several times",
    )
    parser.add_argument("--json", action="store_true", help="say where as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit status."""
    try:
        asyncio.run(_serve(arguments.port, arguments.allow_origin, as_json=arguments.json))
    except OSError as error:
        why = error.strerror or error
        print(f"forge-notebook: port {arguments.port}: {why}", file=sys.stderr)
        return 1
    return 0


async def _serve(port: int, origins: list[str], *, as_json: bool) -> None:
    from forge_notebook.server.hub import Hub
    from forge_notebook.server.listener import application, listen

    store = store_path()
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    hub = Hub(store)
    server, port = listen(application(hub, origins), port)
    url = f"http://localhost:{port}"
    if as_json:
        print(json.dumps({"url": url, "store": str(store), "origins": origins}), flush=True)
    else:
        pages = ", ".join(origins) or "none (give --allow-origin; programs need none)"
        print(f"Serving {store} read-only on {url}", flush=True)
        print(f"Pages that may connect: {pages}", flush=True)
    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            asyncio.get_running_loop().add_signal_handler(number, end.set)
        except NotImplementedError:  # Windows: Ctrl+C raises KeyboardInterrupt instead
            break
    try:
        await end.wait()
    finally:
        server.stop()
        await hub.stop()
        await server.close_all_connections()
