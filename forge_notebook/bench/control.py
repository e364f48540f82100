"""How long a command takes from another process to the loop and back into the log."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from forge_notebook.bench import Row
from forge_notebook.core.control import send_command
from forge_notebook.core.runlog import EVENT, Reader
from forge_notebook.recording import Session

STEP_S = 0.005
GOAL_MS = 200.0


def measure(*, quick: bool, peers: Sequence[str]) -> list[Row]:
    """Commands of another process to a loop of 5 ms steps: written, carried out, and the answer
    read by whoever sent it. No peer takes commands."""
    with tempfile.TemporaryDirectory() as folder:
        times = _answered(Path(folder), 10 if quick else 100)
    p95 = sorted(times)[int(0.95 * (len(times) - 1))]
    name = "command of another process, sent to answered"
    note = f"{len(times)} commands"
    return [
        Row(f"{name}, p50", statistics.median(times), "ms", goal=GOAL_MS, note=note),
        Row(f"{name}, p95", p95, "ms", goal=GOAL_MS),
    ]


def _answered(store: Path, count: int) -> list[float]:
    session = Session("commands", store=store)
    session.log(0, loss=1.0)
    sender = subprocess.Popen(
        [sys.executable, "-m", "forge_notebook.bench.control", str(session.folder), str(count)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    step = 0
    while sender.poll() is None:
        step += 1
        time.sleep(STEP_S)
        session.log(step, loss=1.0)
        while (command := session.next_command()) is not None:
            command.ack()
    session.finish()
    output, _ = sender.communicate()
    if sender.returncode != 0:
        raise RuntimeError(f"the sender of commands ended with {sender.returncode}")
    return [float(line) for line in output.splitlines()]


def _send(folder: Path, count: int) -> None:
    """Send one after the other, at moments that follow nothing, and print what each took, ms."""
    reader, moments = Reader(folder / "run.log"), random.Random(0)
    for _ in range(count):
        time.sleep(moments.random() / 10)
        began = time.perf_counter()
        command_id = send_command(folder, "checkpoint")
        while not _is_answered(reader, command_id):
            time.sleep(0.002)
        print((time.perf_counter() - began) * 1e3, flush=True)


def _is_answered(reader: Reader, command_id: str) -> bool:
    return any(
        record.kind == EVENT and record.data["data"].get("commandId") == command_id
        for record in reader.read()
    )


if __name__ == "__main__":
    _send(Path(sys.argv[1]), int(sys.argv[2]))
