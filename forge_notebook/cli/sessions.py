"""``forge-notebook sessions``: the list of the store."""

from __future__ import annotations

import argparse
import json
from typing import Any

from forge_notebook.integrations.listing import sessions


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("sessions", help="list the sessions of the store")
    parser.add_argument("--status", action="append", help="only these; may be given again")
    parser.add_argument("--name", help="only those whose name has this text in it")
    parser.add_argument("--limit", type=int, help="at most so many, the newest")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the list; returns the exit status."""
    listed = sessions(status=arguments.status, name=arguments.name, limit=arguments.limit)
    print(json.dumps(listed, indent=1) if arguments.json else listed)
    return 0
