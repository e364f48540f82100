"""``forge-notebook bench``: what this costs and keeps, measured here and now."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any

from forge_notebook.bench import AREAS, LONG, as_json, table


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("bench", help="measure costs and limits, as ratios in one run")
    parser.add_argument(
        "areas", nargs="*", metavar="AREA", help=f"of {', '.join(AREAS)}; all; or soak"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the rows there")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions; noisier")
    parser.add_argument(
        "--peers", default="", metavar="LIST", help="also measure trackio,wandb,tensorboard"
    )
    parser.add_argument("--minutes", type=float, help="how long to soak; 120")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 where a goal is missed, 2 where an area is not known."""
    areas = arguments.areas or list(AREAS)
    if unknown := set(areas) - {*AREAS, *LONG}:
        print(f"unknown area {', '.join(sorted(unknown))}; there are {', '.join((*AREAS, *LONG))}")
        return 2
    peers = [peer for peer in arguments.peers.split(",") if peer]
    rows = []
    for area in areas:
        module = import_module(f"forge_notebook.bench.{area}")
        given = (
            {} if arguments.minutes is None or area not in LONG else {"minutes": arguments.minutes}
        )
        found = module.measure(quick=arguments.quick, peers=peers, **given)
        print(table(found), flush=True)
        rows += found
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(as_json(rows), indent=1) + "\n")
    return 0 if all(row.ok is not False for row in rows) else 1
