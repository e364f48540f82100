"""``forge-notebook demo``: a Jupyter server, a real kernel of it, and two sessions trained there.

Nothing is simulated. What the terminal shows is read from the run logs, as any viewer would; every
number of the table at the end was measured, and a missing one makes the exit status 1.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from forge_notebook.cli._jupyter import jupyter_server, kernel_of
from forge_notebook.core.catalog import store_path
from forge_notebook.core.follower import Follower
from forge_notebook.core.status import ENDED
from forge_notebook.core.wire import jsonable

TRAIN_S = 900.0  # far above what a slow machine needs: only a training that hangs gets there

# Runs in the kernel. Prints each session's id as soon as it exists.
TRAIN = """
import forge_notebook as forge
NAMES = {"grok": "Modular addition that groks", "text": "Three Cognate models on text"}
for demo, name in NAMES.items():
    trainer = forge.CognateTrainer(forge.TrainingConfig.demo(demo), name=name).start()
    print(trainer.session.id, flush=True)
    trainer.wait()
"""


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("demo", help="train real models and watch them live")
    parser.add_argument("--exit", action="store_true", help="end when the training has ended")
    parser.add_argument("--json", action="store_true", help="the summary as JSON; implies --exit")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Stay up for looking in a terminal, unless told to exit."""
    if arguments.json:
        return run_demo(stay=False, as_json=True)
    return run_demo(stay=not arguments.exit and sys.stdin.isatty() and sys.stdout.isatty())


def run_demo(*, stay: bool, as_json: bool = False) -> int:
    """Train the demo's sessions and print what came of them; returns the exit status.

    With ``as_json`` the standard output is the table as JSON, and everything else goes to the
    standard error.
    """
    if as_json:
        with redirect_stdout(sys.stderr):
            rows, ok = _run(stay=False)
        print(json.dumps(jsonable([asdict(row) for row in rows]), indent=1))
    else:
        _, ok = _run(stay=stay)
    return 0 if ok else 1


def _run(*, stay: bool) -> tuple[list[Row], bool]:
    with ExitStack() as stack:
        server = stack.enter_context(jupyter_server(store_path()))
        print(f"Live page      {server.url}forge")
        print(f"To log in      open {server.login_page}")
        print(f"Sessions       {store_path()}\n", flush=True)
        kernel = stack.enter_context(kernel_of(server))
        rows = [row for follower in _train(kernel) for row in _summary(follower)]
        ok = _print_table(rows)
        if stay:
            print("\nThe page stays up. Ctrl+C ends the demo.", flush=True)
            _wait_for_interrupt()
    return rows, ok


def _train(kernel: Any) -> Iterator[Follower]:
    """Run the training cell; yields each session once it has ended."""
    request = kernel.execute(TRAIN)
    deadline = time.monotonic() + TRAIN_S
    while True:
        message = _next_message(kernel, request, deadline)
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return
        if message["msg_type"] == "error":
            print("\n".join(message["content"]["traceback"]), file=sys.stderr)
        elif message["msg_type"] == "stream" and message["content"]["name"] == "stderr":
            sys.stderr.write(message["content"]["text"])
        elif message["msg_type"] == "stream":
            for session_id in message["content"]["text"].split():
                yield _watch(store_path() / session_id, deadline)


def _next_message(kernel: Any, request: str, deadline: float) -> Any:
    while True:
        message = kernel.get_iopub_msg(timeout=max(0.0, deadline - time.monotonic()))
        if message["parent_header"].get("msg_id") == request:
            return message


def _watch(folder: Path, deadline: float) -> Follower:
    follower = Follower(folder)
    live = sys.stdout.isatty()
    shown = -1
    while follower.state.status not in ENDED and time.monotonic() < deadline:
        while follower.read():
            pass
        percent = math.floor(follower.state.overall or 0)
        if live:
            print(f"\r{progress_line(follower)}\x1b[K", end="", flush=True)
        elif percent // 20 > shown // 20:
            print(progress_line(follower), flush=True)
        shown = percent
        if follower.state.status not in ENDED and not follower.alive():
            follower.read()
            break
        time.sleep(0.1)
    print(f"\r{progress_line(follower)}\x1b[K" if live else progress_line(follower), flush=True)
    return follower


def progress_line(follower: Follower) -> str:
    """One line of the session's progress, as it stands in its log."""
    state = follower.state
    overall, left, metrics = state.overall, state.remaining(), state.metrics()
    done = 0 if overall is None else round(overall * 24 / 100)
    parts = [f"{state.name[:30]:<30} [{'#' * done}{'.' * (24 - done)}]"]
    parts.append("  -  %" if overall is None else f"{overall:5.1f} %")
    if metrics is not None and metrics["loss"] is not None:
        parts.append(f"loss {metrics['loss']:.4f}")
    if metrics is not None and metrics["extra"].get("val_loss") is not None:
        parts.append(f"val {metrics['extra']['val_loss']:.4f}")
    parts.append(state.status.value if state.status in ENDED else _eta(left))
    return "  ".join(parts)


def _eta(seconds: float | None) -> str:
    return "ETA -" if seconds is None else f"ETA {seconds:.0f} s"


@dataclass
class Row:
    """One model in the summary; None where a number was not measured."""

    session: str
    model: str
    status: str
    steps: int
    loss: float | None
    val_loss: float | None
    speed: float | None
    seconds: float | None

    @property
    def complete(self) -> bool:
        """Whether the model finished and every number was measured."""
        numbers = (self.loss, self.val_loss, self.speed, self.seconds)
        measured = all(n is not None and math.isfinite(n) for n in numbers)
        return self.status == "completed" and self.steps > 0 and measured


def _summary(follower: Follower) -> list[Row]:
    rows = []
    for model in follower.state.models:
        speeds = follower.curves.values(model.index, "tokens_per_s")
        ended = model.start_time is not None and model.end_time is not None
        rows.append(
            Row(
                follower.state.name,
                model.name,
                model.status,
                model.step,
                model.last.get("loss"),
                model.last.get("val_loss"),
                sum(speeds) / len(speeds) if speeds else None,
                (model.end_time or 0) - (model.start_time or 0) if ended else None,
            )
        )
    return rows


def _print_table(rows: list[Row]) -> bool:
    print(f"\n{'session':<30} {'model':<12} {'steps':>6} {'loss':>9} {'val loss':>9}"
          f" {'tokens/s':>9} {'seconds':>8}")  # fmt: skip
    for row in rows:
        print(f"{row.session[:30]:<30} {row.model:<12} {row.steps:>6} {_number(row.loss, 4):>9}"
              f" {_number(row.val_loss, 4):>9} {_number(row.speed, 0):>9}"
              f" {_number(row.seconds, 1):>8}"
              f"{'' if row.complete else '  ' + row.status + ', not all measured'}")  # fmt: skip
    models = {row.session for row in rows}
    ok = len(models) == 2 and all(row.complete for row in rows)
    if not ok:
        print("\nThe demo did not finish: a model or a number is missing.", file=sys.stderr)
    return ok


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()
