"""A loop like nanoGPT's, for the bench: what a step costs without us, by turns with our trainer."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forge_notebook.trainer.control import Control, Stopped
from forge_notebook.trainer.data import Data
from forge_notebook.trainer.run import ModelRun

WIDTH, HEADS, BLOCKS = 128, 4, 2
HIDDEN = 528  # nanoGPT's is 4 * WIDTH; with this the model is exactly as large as ours


class PlainBlock(nn.Module):
    """As in nanoGPT's model.py: attention and a GELU feed-forward after LayerNorms."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.projection = nn.Linear(WIDTH, WIDTH, bias=False)
        self.feed = nn.Sequential(
            nn.Linear(WIDTH, HIDDEN, bias=False),
            nn.GELU(),
            nn.Linear(HIDDEN, WIDTH, bias=False),
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


class PlainLoop:
    """nanoGPT's loop on our batches: forward, backward, clip, AdamW, the loss read each 10."""

    def __init__(self, data: Data, batch_size: int | None) -> None:
        self.data, self.batch_size, self.step = data, batch_size, 0
        self.model = PlainModel(data.classes, data.seq_len)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )

    def take(self, steps: int) -> Took:
        """Go on for so many steps."""
        watch = Watch()
        for _ in range(steps):
            x, y = self.data.batch(1, self.step, self.batch_size)
            loss = F.cross_entropy(self.model(x).flatten(0, 1), y.flatten())
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.step % 10 == 0:
                loss.item()
            self.step += 1
        return watch.each_of(steps)


class Turns(Control):
    """A trainer's control that gives a plain loop its turn after each block of the trainer's steps.

    Both go on and on in one thread, with their memory warm: neighbouring blocks see the same
    machine. `ours` and `theirs` are the blocks; the first of each is left out. `beside` is set
    during the trainer's blocks.
    """

    def __init__(
        self, plain: PlainLoop, block: int, rounds: int, beside: threading.Event | None
    ) -> None:
        super().__init__(lambda status: None)
        self.plain, self.block, self.rounds = plain, block, rounds
        self.beside = beside or threading.Event()
        self.ours: list[Took] = []
        self.theirs: list[Took] = []
        self._watch: Watch | None = None

    def obey(self, run: ModelRun) -> None:
        """Take commands as ever; at the end raises Stopped, without what a real end does."""
        if run.step % self.block == 0:
            if self._watch is not None:
                self.ours.append(self._watch.each_of(self.block))
            self.beside.clear()
            self.theirs.append(self.plain.take(self.block))
            if len(self.ours) > self.rounds:
                del self.ours[0], self.theirs[0]
                raise Stopped
            self.beside.set()
            self._watch = Watch()
        super().obey(run)

    def ratios(self) -> list[tuple[float, float]]:
        """Ours over theirs, by the clock and in CPU time: each block beside the two around it."""
        return [
            (2 * o.wall / (a.wall + b.wall), 2 * o.cpu / (a.cpu + b.cpu))
            for o, a, b in zip(self.ours, self.theirs, self.theirs[1:], strict=False)
        ]
