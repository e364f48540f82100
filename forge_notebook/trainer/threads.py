"""How many threads a step is fastest with: on a busy machine one can beat two eight times over."""

from __future__ import annotations

import copy
import os
import statistics
import time

import torch
from torch import nn

from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.data import Data
from forge_notebook.trainer.metrics import cross_entropy

TRIALS = 3
WINDOW = 20  # steps of which the median is taken
DOUBLED = 2.0  # times the usual step: another load on the machine, another best count


class Threads:
    """The thread count of the training thread; `auto` is measured, and again when steps double."""

    def __init__(self, model: nn.Module, data: Data, config: TrainingConfig) -> None:
        self.model, self.data, self.config = model, data, config
        self.count = 0
        self._usual: float | None = None  # seconds
        self._window: list[float] = []
        self.choose()

    def choose(self) -> int:
        """Set the count of this thread, and return it."""
        threads = self.config.threads
        if threads == "auto":
            threads = _fastest(copy.deepcopy(self.model), self.data, self.config)
        torch.set_num_threads(threads)
        self.count = threads
        self._usual = None
        return threads

    def watch(self, seconds: float) -> str | None:
        """Take the time of one step; says what was changed, if the machine has become another."""
        if self.config.threads != "auto":
            return None
        self._window.append(seconds)
        if len(self._window) < WINDOW:
            return None
        middle = statistics.median(self._window)
        self._window.clear()
        if self._usual is None or middle < self._usual:
            self._usual = middle
        if middle < DOUBLED * self._usual:
            return None
        before, usual = self.count, self._usual
        after = self.choose()
        if after == before:
            return None
        slower = f"a step takes {middle * 1e3:.3g} ms instead of {usual * 1e3:.3g}"
        return f"{slower}; threads: {before} before, {after} now"


def _fastest(model: nn.Module, data: Data, config: TrainingConfig) -> int:
    counts = sorted({1, os.cpu_count() or 1})
    return min(counts, key=lambda count: _seconds(model, data, config, count))


def _seconds(model: nn.Module, data: Data, config: TrainingConfig, threads: int) -> float:
    torch.set_num_threads(threads)
    device = next(model.parameters()).device
    x, y = (part.to(device) for part in data.batch(config.seed, 0, config.batch_size))
    best = float("inf")
    for _ in range(TRIALS):
        began = time.perf_counter()
        torch.autograd.backward(cross_entropy(model(x).logits, y))
        model.zero_grad()
        best = min(best, time.perf_counter() - began)
    return best
