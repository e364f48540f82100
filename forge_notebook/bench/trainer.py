"""Our trainer beside a plain loop of the same size, in the same run and alternating with it."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forge_notebook.bench import Row
from forge_notebook.recording import Session
from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.control import Control, Stopped
from forge_notebook.trainer.data import Data, load_data
from forge_notebook.trainer.hooks import CallbackHook
from forge_notebook.trainer.loop import train_model
from forge_notebook.trainer.presets import parameter_count
from forge_notebook.trainer.run import ModelRun
from forge_notebook.trainer.threads import Threads

BASE = TrainingConfig.demo(
    "text", model_count=1, halting=False, memory=False, optimizer="adamw", threads=1
)
WIDTH, HEADS, BLOCKS = 128, 4, 2
DUTY_S = 0.0005  # of each 50 ms: 1 %


class PlainBlock(nn.Module):
    """As in nanoGPT's model.py: attention and a GELU feed-forward after LayerNorms."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.projection = nn.Linear(WIDTH, WIDTH, bias=False)
        self.feed = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH, bias=False),
            nn.GELU(),
            nn.Linear(4 * WIDTH, WIDTH, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, time, width) to the same shape."""
        batch, time_, width = x.shape
        parts = self.attention(self.first(x)).split(WIDTH, dim=2)
        q, k, v = (p.view(batch, time_, HEADS, width // HEADS).transpose(1, 2) for p in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(y.transpose(1, 2).contiguous().view(batch, time_, width))
        fed: Tensor = x + self.feed(self.second(x))
        return fed


class PlainModel(nn.Module):
    """The smallest honest GPT, untied like ours."""

    def __init__(self, classes: int, context: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(classes, WIDTH), nn.Embedding(context, WIDTH)
        self.blocks = nn.Sequential(*(PlainBlock() for _ in range(BLOCKS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of (batch, time) tokens."""
        at = torch.arange(x.shape[1])
        logits: Tensor = self.head(self.norm(self.blocks(self.tokens(x) + self.positions(at))))
        return logits


@dataclass(frozen=True)
class Took:
    """Seconds of a step: by the clock, and of the training thread alone (the machine is busy)."""

    wall: float
    cpu: float


class Watch:
    """Times so many steps."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.thread_time()

    def each_of(self, steps: int) -> Took:
        """What one of the steps since took."""
        wall, cpu = time.perf_counter() - self.wall, time.thread_time() - self.cpu
        return Took(wall / steps, cpu / steps)


def plain_loop(model: PlainModel, data: Data, steps: int) -> Took:
    """A step of nanoGPT's loop: forward, backward, clip, AdamW, loss read each 10."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    watch = Watch()
    for step in range(steps):
        x, y = data.batch(1, step, BASE.batch_size)
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 10 == 0:
            loss.item()
    return watch.each_of(steps)


class Until(Control):
    """Ends a training before a step, with nothing of what a real end does."""

    def __init__(self, steps: int) -> None:
        super().__init__(lambda status: None)
        self.steps = steps

    def obey(self, run: ModelRun) -> None:
        """Take commands as ever."""
        if run.step >= self.steps:
            raise Stopped
        super().obey(run)


def our_loop(data: Data, steps: int, **changes: object) -> tuple[Took, int]:
    """A step of the trainer with all that it does in a step, and the parameters.

    Without evaluation and checkpoints, which have schedules of their own and no like in the plain
    loop.
    """
    later = {"eval_interval": 10**6, "checkpoint_interval": 10**6}
    settings = {**BASE.to_dict(), "max_steps": 10**6, "epochs": 10**6, **later, **changes}
    config = TrainingConfig.from_dict(settings)
    with tempfile.TemporaryDirectory() as folder, Session("bench", store=folder) as session:
        run = ModelRun(config, data, session, CallbackHook(), 0)
        run.resumed = True  # no evaluation and no checkpoint before the first step
        threads = Threads(run.model, data, config)
        watch = Watch()
        with suppress(Stopped):
            train_model(run, Until(steps), threads)
        return watch.each_of(steps), parameter_count(run.model)


def measure(*, quick: bool, peers: Sequence[str]) -> list[Row]:
    """Tokens per second as ratios to the plain loop, what each part costs, and the GIL convoy."""
    steps, rounds = (10, 5) if quick else (60, 7)
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    data = load_data(BASE)
    plain = PlainModel(data.classes, data.seq_len)
    tokens = (BASE.batch_size or 1) * data.seq_len
    found: dict[str, list[Took]] = {}
    kinds: dict[str, Callable[[], Took]] = {
        "plain": lambda: plain_loop(plain, data, steps),
        "ours": lambda: our_loop(data, steps)[0],
        "halting": lambda: our_loop(data, steps, halting=True)[0],
        "memory": lambda: our_loop(data, steps, memory=True)[0],
        "muon": lambda: our_loop(data, steps, optimizer="muon")[0],
        "busy": lambda: _beside_a_thread(lambda: our_loop(data, steps)[0]),
    }
    for _ in range(rounds):  # alternating: the machine's speed drifts
        for name, kind in kinds.items():
            found.setdefault(name, []).append(kind())
    seconds = {name: statistics.median(t.wall for t in took) for name, took in found.items()}
    cpu = {name: statistics.median(t.cpu for t in took) for name, took in found.items()}
    sizes = f"{our_loop(data, 1)[1]} parameters, plain {parameter_count(plain)}"
    # Of neighbours in time: the machine's speed drifts by more than what is asked for.
    pairs = list(zip(found["plain"], found["ours"], strict=True))
    faster = statistics.median(theirs.wall / ours.wall for theirs, ours in pairs)
    base = tokens / seconds["plain"]
    rows = [
        Row("tokens/s, halting and memory off", faster * base, "tok/s", "plain loop",
            base, base, more_is_better=True, note=sizes),
        Row("CPU of the training thread for a step", cpu["ours"] * 1e3, "ms", "plain loop",
            cpu["plain"] * 1e3, note="a busy machine disturbs this less"),
    ]  # fmt: skip
    for name in ("halting", "memory", "muon"):
        rows.append(Row(f"step with {name} on", seconds[name] * 1e3, "ms", "off",
                        seconds["ours"] * 1e3))  # fmt: skip
    rows.append(
        Row("step beside a thread of 1 % duty", seconds["busy"] * 1e3, "ms", "without",
            seconds["ours"] * 1e3, note="the GIL convoy; our own threads are below that")
    )  # fmt: skip
    return rows


def _beside_a_thread(work: Callable[[], Took]) -> Took:
    done = threading.Event()

    def disturb() -> None:
        while not done.wait(100 * DUTY_S - DUTY_S):
            until = time.perf_counter() + DUTY_S
            while time.perf_counter() < until:
                pass

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        return work()
    finally:
        done.set()
        thread.join()
