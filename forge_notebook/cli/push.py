"""``forge-notebook push``: send a recorded session to another server."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from forge_notebook.core.catalog import Catalog, store_path
from forge_notebook.recording.uplink import ship, target

PATIENCE_S = 30.0


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("push", help="send a session's log to the server at $FORGE_URL")
    parser.add_argument("session_id")
    parser.add_argument("--url", help="instead of $FORGE_URL; the token is $FORGE_TOKEN")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Send it, also while it is still being recorded; returns the exit status."""
    folder = Catalog(store_path()).folder(arguments.session_id)
    try:
        server = target(arguments.url)
    except ValueError as error:
        print(f"forge-notebook: {error}", file=sys.stderr)
        return 2
    if server is None:
        print("forge-notebook: where to? set FORGE_URL, or give --url", file=sys.stderr)
        return 2
    sent = ship(folder, server, patience_s=PATIENCE_S)
    size = (folder / "run.log").stat().st_size
    answer = {"sessionId": folder.name, "url": server.url, "sent": sent, "bytes": size}
    if arguments.json:
        print(json.dumps(answer))
    else:
        print(
            f"{folder.name}: {f'{size} bytes are there' if sent else 'the server did not answer'}"
        )
    return 0 if sent else 1
