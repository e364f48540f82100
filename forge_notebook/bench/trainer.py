"""Our trainer beside a plain loop of the same size, in one thread and by turns with it."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

from forge_notebook.bench import Row
from forge_notebook.bench.plain_gpt import PlainLoop, Turns
from forge_notebook.bench.trainer_runs import measure_runs
from forge_notebook.recording import Session
from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.control import Stopped
from forge_notebook.trainer.data import Data, load_data
from forge_notebook.trainer.hooks import CallbackHook
from forge_notebook.trainer.loop import train_model
from forge_notebook.trainer.presets import parameter_count
from forge_notebook.trainer.run import ModelRun
from forge_notebook.trainer.threads import Threads

BASE = TrainingConfig.demo(
    "text", model_count=1, halting=False, memory=False, optimizer="adamw", threads=1
)
BLOCK = 10  # steps; turns change so often that a drift of the machine meets both alike
PARTS: dict[str, dict[str, Any]] = {
    "halting on": {"halting": True},
    "memory on": {"memory": True},
    "Muon": {"optimizer": "muon"},
}
DUTY_S = 0.0005  # of each 50 ms: 1 %


def by_turns(
    data: Data, rounds: int, beside: threading.Event | None = None, **changes: Any
) -> tuple[Turns, int]:
    """The trainer's steps with all that belongs to them, and the plain loop's; the parameters.

    Without evaluation and checkpoints, which have schedules of their own and no like in the plain
    loop.
    """
    later = {"eval_interval": 10**6, "checkpoint_interval": 10**6}
    settings = {**BASE.to_dict(), "max_steps": 10**6, "epochs": 10**6, **later, **changes}
    config = TrainingConfig.from_dict(settings)
    turns = Turns(PlainLoop(data, config.batch_size), BLOCK, rounds, beside)
    with tempfile.TemporaryDirectory() as folder, Session("bench", store=folder) as session:
        run = ModelRun(config, data, session, CallbackHook(), 0)
        run.resumed = True  # no evaluation and no checkpoint before the first step
        threads = Threads(run.model, data, config)
        with suppress(Stopped):
            train_model(run, turns, threads)
        return turns, parameter_count(run.model)


def measure(*, quick: bool, peers: Sequence[str]) -> list[Row]:
    """Tokens per second beside the plain loop, what each part costs, and what real runs reach."""
    return steps(quick=quick) + measure_runs(quick=quick)


def steps(*, quick: bool) -> list[Row]:
    """Steps beside the plain loop's, what each part costs, and the GIL convoy."""
    rounds, few = (5, 1) if quick else (30, 7)
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    data = load_data(BASE)
    turns, size = by_turns(data, rounds)
    base = statistics.median(took.wall for took in turns.theirs) * 1e3  # ms
    base_cpu = statistics.median(took.cpu for took in turns.theirs) * 1e3
    wall, cpu = _medians(turns)
    per_step = (BASE.batch_size or 1) * data.seq_len
    sizes = f"{size} parameters, plain {parameter_count(turns.plain.model)}"
    speed = per_step / base * 1e3
    found = [
        Row("tokens/s, halting and memory off", speed / wall, "tok/s", "plain loop",
            speed, speed, more_is_better=True, note=sizes),
        Row("CPU of the training thread for a step", cpu * base_cpu, "ms", "plain loop",
            base_cpu, note="a busy machine disturbs this less"),
    ]  # fmt: skip
    for name, changes in PARTS.items():
        part, _ = _medians(by_turns(data, few, **changes)[0])
        found.append(Row(f"step with {name}", part * base, "ms", "without", wall * base))
    with _busy_thread() as busy:
        beside, _ = _medians(by_turns(data, few, busy)[0])
    found.append(
        Row("step beside a thread of 1 % duty", beside * base, "ms", "without", wall * base,
            note="the GIL convoy; our own threads are below that")
    )  # fmt: skip
    return found


@contextmanager
def _busy_thread() -> Iterator[threading.Event]:
    """A thread that is busy for 1 % of the time while the event is set."""
    busy, done = threading.Event(), threading.Event()

    def disturb() -> None:
        while not done.wait(100 * DUTY_S - DUTY_S):
            until = time.perf_counter() + DUTY_S
            while busy.is_set() and time.perf_counter() < until:
                pass

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        yield busy
    finally:
        done.set()
        thread.join()


def _medians(turns: Turns) -> tuple[float, float]:
    wall, cpu = zip(*turns.ratios(), strict=True)
    return statistics.median(wall), statistics.median(cpu)
