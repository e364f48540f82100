"""Numbers measured on a model outside the training step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forge_notebook.trainer.data import Data


@dataclass(frozen=True)
class Measured:
    """Cross-entropy in nats, accuracy 0..1 and log-rank progress G of one sample."""

    loss: float
    accuracy: float
    rank: float


def rank_progress(logits: Tensor, y: Tensor) -> Tensor:
    """Share of the ranking information recovered: 0 at chance, 1 when the answer is always first.

    G = 1 - E[ln rank] / (ln C! / C) with the mid-rank of the right class, so that constant logits
    are no success. It does not change with the scale of the logits. More than 1 means NaN logits.
    """
    classes = logits.shape[-1]
    right = logits.gather(-1, y[..., None])
    rank = (logits > right).sum(-1) + ((logits == right).sum(-1) + 1) / 2
    return 1 - rank.log().mean() / (math.lgamma(classes + 1) / classes)


def measure(logits: Tensor, y: Tensor) -> Measured:
    """Compare logits (batch, time, classes) with the classes of the last positions."""
    logits = logits[:, -y.shape[1] :]
    finite = bool(logits.isfinite().all())
    return Measured(
        loss=float(cross_entropy(logits, y)),
        accuracy=float((logits.argmax(-1) == y).float().mean()) if finite else math.nan,
        rank=float(rank_progress(logits, y)) if finite else math.nan,
    )


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean nats over the positions that have a class."""
    return F.cross_entropy(logits[:, -y.shape[1] :].flatten(0, 1), y.flatten())


@torch.no_grad()
def evaluate(model: nn.Module, data: Data) -> dict[str, float]:
    """Held-out metrics under their names in the log, and G on training data where it exists."""
    x, y = data.held_out()
    held_out = measure(model(x).logits, y)
    found = {
        "val_loss": held_out.loss,
        "val_accuracy": held_out.accuracy,
        "rank_val": held_out.rank,
    }
    if data.classes == 256:
        found["bits_per_byte"] = held_out.loss / math.log(2)
    sample = data.train_sample()
    if sample is not None:
        found["rank_train"] = measure(model(sample[0]).logits, sample[1]).rank
    return found


@torch.no_grad()
def weight_norm(model: nn.Module) -> float:
    """Euclidean norm of all parameters."""
    return float(torch.nn.utils.get_total_norm(list(model.parameters()), foreach=True))
