"""``forge-notebook export``: a session to a file of another tool."""

from __future__ import annotations

import argparse
import json
from typing import Any

from forge_notebook.integrations.history import load
from forge_notebook.integrations.transfer import WRITERS


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("export", help="write a session to a file")
    parser.add_argument("session_id")
    parser.add_argument("path", help=".csv .jsonl .parquet .html .png .svg; else a folder")
    parser.add_argument("--format", choices=sorted(WRITERS), help="default: by the path's end")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write it; returns the exit status."""
    path = load(arguments.session_id).export(arguments.path, arguments.format)
    print(json.dumps({"path": str(path)}) if arguments.json else path)
    return 0
