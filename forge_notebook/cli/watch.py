"""``forge-notebook watch``: a session live in the terminal."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from forge_notebook.core.catalog import Catalog, store_path
from forge_notebook.core.follower import Follower
from forge_notebook.core.status import ENDED

INTERVAL_S = 0.25
BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 60
SHOWN = 8  # metrics


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("watch", help="watch a session live in the terminal")
    parser.add_argument("session_id")
    parser.add_argument("--once", action="store_true", help="show it as it stands, and end")
    parser.add_argument("--json", action="store_true", help="one message a line, as viewers get")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Watch until the session has ended; 1 where it failed or was interrupted."""
    follower = Follower(Catalog(store_path()).folder(arguments.session_id), keep_rows=0)
    follower.load()
    if arguments.json:
        _as_json(follower, once=arguments.once)
    elif arguments.once or not sys.stdout.isatty():
        for _ in _rounds(follower, once=arguments.once):
            pass
        Console().print(view(follower))
    else:
        with Live(view(follower), auto_refresh=False) as live:
            for _ in _rounds(follower):
                live.update(view(follower), refresh=True)
    return 1 if follower.status(detail=False)["status"] in ("failed", "interrupted") else 0


def _rounds(follower: Follower, *, once: bool = False) -> Iterator[None]:
    """After each reading, until the session has ended or its process is gone."""
    while True:
        alive = follower.alive()  # before reading: what a dying process wrote is still read
        while follower.read():
            pass
        yield
        if once or not alive or follower.state.status in ENDED:
            return
        time.sleep(INTERVAL_S)


def _as_json(follower: Follower, *, once: bool) -> None:
    for event, data in follower.opening(None):
        print(json.dumps({"event": event, "data": data}), flush=True)
    for _ in _rounds(follower, once=once):
        for event, data in follower.messages():
            print(json.dumps({"event": event, "data": data}), flush=True)
    if (message := follower.died()) is not None:
        print(json.dumps({"event": message[0], "data": message[1]}), flush=True)


def view(follower: Follower) -> RenderableType:
    """The session as the terminal shows it. Every name is text, never markup."""
    status = follower.status()
    metrics = status["metrics"]
    head = Table.grid(padding=(0, 2))
    overall = metrics["overallProgress"] if metrics else None
    left = metrics["estimatedTimeRemaining"] if metrics else None
    head.add_row(
        Text(status["status"], style="bold"),
        ProgressBar(total=100, completed=overall or 0, width=30),
        Text("- %" if overall is None else f"{overall:g} %"),
        Text("" if status["endTime"] else f"ETA {'-' if left is None else f'{left:.0f} s'}"),
    )
    parts: list[RenderableType] = [head, _models(status["models"]), _curves(follower)]
    if status["error"]:
        parts.append(Text(status["error"], style="red"))
    if status["lost"]:
        parts.append(Text(f"{status['lost']} records lost", style="yellow"))
    return Panel(Group(*parts), title=Text(status["name"]), subtitle=Text(status["sessionId"]))


def _models(models: list[Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("model", "status", "step", "loss", "val loss"):
        table.add_column(name, justify="left" if name in ("model", "status") else "right")
    for model in models:
        total = "" if model["totalSteps"] is None else f"/{model['totalSteps']}"
        cells = (model["name"], model["status"], f"{model['step']}{total}")
        numbers = (_number(model["loss"]), _number(model["valLoss"]))
        table.add_row(*map(Text, (*cells, *numbers)))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _curves(follower: Follower) -> Table:
    table = Table.grid(padding=(0, 2))
    model = follower.state.current
    for name in list(follower.state.metric_names)[:SHOWN]:
        blocks = follower.curves.overview(400, metrics=[name])
        values = next((b["values"][0] for b in blocks if b["model"] == model), [])
        newest = follower.state.model(model).last.get(name, math.nan)
        table.add_row(Text(name), Text(sparkline(values, WIDTH)), Text(f"{newest:.4g}"))
    return table


def sparkline(values: list[float | None], width: int) -> str:
    """The curve as blocks, one character a bucket: its highest value, blank where none is finite.

    >>> sparkline([0.0, 1.0, None, 2.0], 4)
    '▁▄ █'
    """
    size = max(1, math.ceil(len(values) / width))
    buckets = [
        [v for v in values[at : at + size] if v is not None] for at in range(0, len(values), size)
    ]
    tops = [max(bucket) if bucket else None for bucket in buckets]
    known = [top for top in tops if top is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    scale = (len(BARS) - 2) / span if span > 0 else 0.0
    return "".join(" " if t is None else BARS[1 + int((t - low) * scale)] for t in tops)
