"""``forge-notebook control``: a command to a running session."""

from __future__ import annotations

import argparse
import json
from typing import Any

from forge_notebook.core.catalog import Catalog, store_path
from forge_notebook.core.control import COMMANDS, send_command


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("control", help="send a command to a running session")
    parser.add_argument("session_id")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--args", type=json_object, default={}, help="JSON object, for 'set'")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def json_object(text: str) -> dict[str, Any]:
    """The object that a text is. Raises ValueError where it is none."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError
    return value


def run(arguments: argparse.Namespace) -> int:
    """Send it; returns the exit status."""
    folder = Catalog(store_path()).folder(arguments.session_id)
    command_id = send_command(folder, arguments.command, arguments.args)
    print(json.dumps({"commandId": command_id}) if arguments.json else f"sent ({command_id})")
    return 0
