"""Runs of other recorders in processes of their own: killed while they log, and read back as
their own viewers read them."""

from __future__ import annotations

import importlib
import json
import mmap
import os
import random
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from forge_notebook.bench import OURS, Row
from forge_notebook.bench.peers import loggers
from forge_notebook.integrations.formats import tensorboard_files, trackio_db, wandb_file

INTERVAL_S = 0.01  # 100 rows a second
OUTLIVES_S = 2.0  # W&B writes in a process beside the killed one, which may finish what it has
EVERY = 100  # one step of so many is a spike
SPIKE = 9.0
_STEP = struct.Struct("<q")


def lost_on_kill(peers: Sequence[str], kills: int, ours: int) -> list[Row]:
    """For each peer the median of rows that it had taken and that are not there after a kill;
    ``ours`` is what all of our kills lost together."""
    rows = []
    for name in peers:
        lost, moments = [], random.Random(0)
        for _ in range(kills):
            with tempfile.TemporaryDirectory() as folder:
                lost.append(_kill(name, Path(folder), 1 + moments.random()))
        note = f"{1 / INTERVAL_S:.0f} rows a second, {kills} kills"
        what = f"{name}: rows lost on a SIGKILL"
        rows.append(Row(what, statistics.median(lost), "rows", OURS, float(ours), note=note))
    return rows


def overviews(
    peers: Sequence[str], steps: int, repeats: int, ours_ms: float, ours_spikes: float
) -> list[Row]:
    """What a viewer of the peer waits for a curve of so many steps, with one more row each time,
    and how many one-step spikes it then has. W&B has no viewer on the machine that trains."""
    rows = []
    for name in peers:
        if name not in _VIEWS:
            continue
        with tempfile.TemporaryDirectory() as folder:
            command = _command("view", name, folder, str(steps), str(repeats))
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        what = f"{name}: overview of {steps} steps"
        rows.append(Row(what, found["ms"], "ms", OURS, ours_ms, note=found["points"]))
        spikes = f"{name}: one-step spikes kept of {steps} steps"
        rows.append(Row(spikes, found["spikes"], "%", OURS, ours_spikes))
    return rows


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "forge_notebook.bench.peer_runs", *arguments]


def _kill(name: str, folder: Path, after_s: float) -> int:
    file = folder / "acknowledged"
    file.write_bytes(bytes(_STEP.size))
    with open(file, "r+b") as opened:
        acknowledged = mmap.mmap(opened.fileno(), _STEP.size)
    child = subprocess.Popen(
        _command("log", name, str(folder)), stdout=subprocess.DEVNULL, start_new_session=True
    )
    while _STEP.unpack_from(acknowledged)[0] == 0:
        if child.poll() is not None:
            raise RuntimeError(f"{name} ended by itself with {child.returncode}")
        time.sleep(0.01)
    time.sleep(after_s)
    child.kill()
    child.wait()
    time.sleep(OUTLIVES_S)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    taken: int = _STEP.unpack_from(acknowledged)[0]
    return taken - len({s for s in _READ[name](folder) if s < taken})


def _log_for_ever(name: str, folder: Path) -> None:
    with open(folder / "acknowledged", "r+b") as file:
        acknowledged = mmap.mmap(file.fileno(), _STEP.size)
    parent = os.getppid()
    for _, log in loggers([name], folder):
        step = 0
        while os.getppid() == parent:  # nobody else would end it
            log(step)
            step += 1
            _STEP.pack_into(acknowledged, 0, step)
            time.sleep(INTERVAL_S)


def _steps(read: Callable[[Path], list[Any]], pattern: str) -> Callable[[Path], list[int]]:
    """The steps whose last metric is there, of every file that matches."""

    def found(folder: Path) -> list[int]:
        runs = [run for path in folder.rglob(pattern) for run in read(path)]
        return [row.step for run in runs for row in run.rows if "epoch" in row.metrics]

    return found


_READ = {
    "trackio": _steps(trackio_db.read, "*.db"),
    "wandb": _steps(wandb_file.read, "*.wandb"),
    "tensorboard": _steps(tensorboard_files.read, "events.out.tfevents.*"),
}


def value(step: int) -> float:
    """A curve with spikes of one step, at places that no stride meets or misses by itself."""
    return SPIKE if zlib.crc32(_STEP.pack(step)) % EVERY == 0 else 1.0 + step % 7 / 100


def _view(name: str, folder: Path, steps: int, repeats: int) -> None:
    add, look = _VIEWS[name](folder)
    add(range(steps))
    spent, values = [], []
    for extra in range(repeats):
        add(range(steps + extra, steps + extra + 1))
        began = time.perf_counter()
        values = look()
        spent.append((time.perf_counter() - began) * 1e3)
    there = sum(value(step) == SPIKE for step in range(steps + repeats))
    kept = 100 * sum(v == SPIKE for v in values) / there
    found = {"ms": statistics.median(spent), "spikes": kept, "points": f"{len(values)} points"}
    print(json.dumps(found), file=sys.__stdout__)


Viewed = tuple[Callable[[range], None], Callable[[], list[float]]]


def _trackio_view(folder: Path) -> Viewed:
    os.environ["TRACKIO_DIR"] = str(folder)
    server = importlib.import_module("trackio.server")
    store = importlib.import_module("trackio.sqlite_storage").SQLiteStorage

    def add(steps: range) -> None:
        rows = [{"loss": value(step), "lr": 0.1} for step in steps]
        store.bulk_log("bench", "run", rows, steps=list(steps))

    return add, lambda: [row["loss"] for row in server.get_logs("bench", "run", scalar_only=True)]


def _tensorboard_view(folder: Path) -> Viewed:
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(str(folder))
    module = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")

    def add(steps: range) -> None:
        for step in steps:
            writer.add_scalar("loss", value(step), step)
            writer.add_scalar("lr", 0.1, step)
        writer.flush()

    # 1,000 points of each curve: what TensorBoard's own server keeps unless told otherwise.
    opened = module.EventAccumulator(str(folder), size_guidance={module.SCALARS: 1000})

    def look() -> list[float]:
        opened.Reload()
        return [event.value for event in opened.Scalars("loss")]

    return add, look


_VIEWS: dict[str, Callable[[Path], Viewed]] = {
    "trackio": _trackio_view,
    "tensorboard": _tensorboard_view,
}


if __name__ == "__main__":
    action, peer, place, *numbers = sys.argv[1:]
    if action == "log":
        _log_for_ever(peer, Path(place))
    else:
        _view(peer, Path(place), *map(int, numbers))
