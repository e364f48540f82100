"""``forge-notebook``: the sessions of the store from a terminal, the demo, the benchmarks.

One file per command; each has ``register(commands)``, which adds its parser and sets ``run``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from forge_notebook import __version__
from forge_notebook.core.errors import ForgeError

COMMANDS = (
    "demo",
    "sessions",
    "watch",
    "control",
    "serve",
    "export",
    "import_",
    "bench",
    "check",
    "push",
    "token",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        return status
    except ForgeError as error:
        print(f"forge-notebook: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, BrokenPipeError):
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="forge-notebook", description="Live training monitor for Jupyter."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        import_module(f"forge_notebook.cli.{name}").register(commands)
    return parser
