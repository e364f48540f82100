"""``forge-notebook bench``: what this costs and keeps, measured here and now."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from forge_notebook.bench import AREAS, LONG
from forge_notebook.bench.report import as_json, markdown, setting, table, write_into


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("bench", help="measure costs and limits, as ratios in one run")
    names = f"of {', '.join(AREAS)}; all without a name; {', '.join(LONG)} only by name"
    parser.add_argument("areas", nargs="*", metavar="AREA", help=names)
    parser.add_argument("--json", metavar="FILE", help="also write the rows there")
    parser.add_argument(
        "--readme", metavar="FILE", help="also write the table between the two marks of that file"
    )
    parser.add_argument("--quick", action="store_true", help="fewer repetitions; noisier")
    parser.add_argument(
        "--peers", default="", metavar="LIST", help="also measure trackio,wandb,tensorboard"
    )
    parser.add_argument("--minutes", type=float, help="how long to soak; 120")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 where a goal is missed, 2 where an area is not known."""
    wanted = arguments.areas or list(AREAS)
    if unknown := set(wanted) - {*AREAS, *LONG}:
        names = ", ".join((*AREAS, *LONG))
        print(f"unknown area {', '.join(sorted(unknown))}; there are {names}", file=sys.stderr)
        return 2
    where, areas = setting(), {}
    for area in wanted:
        areas[area] = _measure(area, arguments)
        print(table(areas[area]), flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(as_json(areas, where), indent=1) + "\n")
    if arguments.readme:
        write_into(Path(arguments.readme), markdown(areas, where))
    return 0 if all(row.ok is not False for rows in areas.values() for row in rows) else 1


def _measure(area: str, arguments: argparse.Namespace) -> Any:
    given: dict[str, Any] = {
        "quick": arguments.quick,
        "peers": [peer for peer in arguments.peers.split(",") if peer],
    }
    if area in LONG and arguments.minutes is not None:
        given["minutes"] = arguments.minutes
    return import_module(f"forge_notebook.bench.{area}").measure(**given)
