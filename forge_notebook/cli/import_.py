"""``forge-notebook import``: other tools' runs into the store."""

from __future__ import annotations

import argparse
import json
from typing import Any

from forge_notebook.integrations.transfer import READERS, import_runs


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("import", help="bring runs of other tools into the store")
    parser.add_argument("path", help="TensorBoard, W&B, Trackio, Neptune, Parquet, CSV, JSON lines")
    parser.add_argument("--format", choices=sorted(READERS), help="default: by the path's name")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Import and list them; returns the exit status."""
    histories = import_runs(arguments.path, format=arguments.format)
    if arguments.json:
        print(json.dumps([{"sessionId": h.id, "name": h.name} for h in histories], indent=1))
    else:
        print("\n".join(f"{history.id}  {history.name}" for history in histories))
    return 0
