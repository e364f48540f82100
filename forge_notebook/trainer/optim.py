"""Optimizers, the learning rate over time, and GrokFast.

Steps to 99 % held-out accuracy of the one-hot net (p 59, 40 %, seeds 11 and 12: two runs each),
from `python -m forge_notebook.trainer.compare_optimizers`:

    AdamW lr .03 wd 2                  710, 660
    Muon lr .3 wd .1                   730, 690 (of all matrices)
    Muon lr .1 wd .3                   not in 2000, not in 2000
    AdamW lr .01 wd 1                  1500, 1380
    AdamW lr .01 wd 1, GrokFast .9     1730, 1690
    AdamW lr .01 wd 1, GrokFast .98    not in 2000, 1920
    AdamW lr .01 wd 0                  not in 2000, not in 2000
    AdamW lr .01 wd 0, GrokFast .98    not in 2000, not in 2000

Weight decay times learning rate is what helps; Muon is par with the best AdamW, GrokFast does not
help, with or without weight decay. Muon's rows are of another processor than the others: there
AdamW lr .03 wd 2 took 680, 660.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.muon import Muon
from forge_notebook.trainer.shards import load_optimizer, part

MUON_RATIO = 20 / 3  # Muon 0.02 beside AdamW 0.003: best of the grid on text
HALT_RATIO = 0.1  # slower than the block it judges; at 1 the core collapses to one step by step 80
BETAS = {"text": (0.9, 0.95), "modular": (0.9, 0.98), "parity": (0.9, 0.98)}
WEIGHT_DECAY = {"text": 0.1, "modular": 1.0, "parity": 1.0}
CLIP = 1.0  # of the gradient's norm
WARMUP = 10  # steps, but on text
WARMUP_TEXT = 0.05  # share of the steps
FLOOR = 0.1  # the cosine ends at this share


class Optimizers:
    """One or two torch optimizers and the optional gradient filter, driven as one."""

    def __init__(self, model: nn.Module, config: TrainingConfig) -> None:
        decay = config.weight_decay
        decay = WEIGHT_DECAY[config.task] if decay is None else decay
        muon = config.optimizer == "muon" or (config.optimizer == "auto" and config.task == "text")
        self.parts: list[torch.optim.Optimizer] = []
        rest = list(model.parameters())
        if muon:
            matrices = list(_matrices(model))
            rest = [p for p in rest if all(p is not m for m in matrices)]
            group = [{"params": matrices, "ratio": MUON_RATIO}]
            self.parts.append(Muon(group, weight_decay=decay))
        halting = [p for name, p in model.named_parameters() if ".halt." in name]
        rest = [p for p in rest if all(p is not h for h in halting)]
        groups = [{"params": rest, "ratio": 1.0}]
        if halting:
            groups.append({"params": halting, "ratio": HALT_RATIO})
        # fused: 4 times faster than foreach on a CPU
        self.parts.append(
            torch.optim.AdamW(groups, betas=BETAS[config.task], weight_decay=decay, fused=True)
        )
        self.filter = (
            GrokFast(model.parameters(), config.grokfast_alpha, config.grokfast_lambda)
            if config.grokfast
            else None
        )

    def step(self, lr: float) -> None:
        """Apply the gradients, which must be finite."""
        if self.filter is not None:
            self.filter.apply()
        for optimizer in self.parts:
            for group in optimizer.param_groups:
                group["lr"] = lr * group["ratio"]
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self.parts:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Everything a checkpoint needs."""
        average = None if self.filter is None else self.filter.average
        return {"parts": [one.state_dict() for one in self.parts], "filter": average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for optimizer, saved in zip(self.parts, state["parts"], strict=True):
            load_optimizer(optimizer, saved)
        if self.filter is not None:
            average = state["filter"]
            parameters = [p for p in self.filter.parameters if p.requires_grad]
            self.filter.average = average and [
                part(value, p) for value, p in zip(average, parameters, strict=False)
            ]


class GrokFast:
    """g + lambda * EMA(g) (2405.20233). Off by default: no gain here beside weight decay."""

    def __init__(self, parameters: Iterable[nn.Parameter], alpha: float, factor: float) -> None:
        self.parameters, self.alpha, self.factor = list(parameters), alpha, factor
        self.average: list[Tensor] | None = None

    def apply(self) -> None:
        """Change the gradients in place."""
        grads = [p.grad for p in self.parameters if p.grad is not None]
        if self.average is None:
            self.average = [grad.clone() for grad in grads]
        torch._foreach_lerp_(self.average, grads, 1 - self.alpha)
        torch._foreach_add_(grads, self.average, alpha=self.factor)


def schedule(task: str, step: int, total: int) -> float:
    """Share of the learning rate at a step: warm-up, then a cosine on text, else constant."""
    if task != "text":
        return min(1.0, (step + 1) / WARMUP)
    warmup = max(1, round(WARMUP_TEXT * total))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done))


def _matrices(model: nn.Module) -> Iterator[nn.Parameter]:
    """Hidden matrices only: Muon is not for the logits' matrix, embeddings and gates."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.bias is None and name != "head":
            yield module.weight
