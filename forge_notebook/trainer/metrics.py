"""Numbers measured on a model outside the training step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forge_notebook.trainer.data import Data
from forge_notebook.trainer.model import OneHotNet
from forge_notebook.trainer.shards import whole

TOP_FREQUENCIES = 5


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
    device = next(model.parameters()).device
    x, y = (part.to(device) for part in data.held_out())
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
        x, y = (part.to(device) for part in sample)
        found["rank_train"] = measure(model(x).logits, y).rank
    if getattr(data, "cyclic", False):
        found["fourier_top5"] = fourier_concentration(operand_embedding(model))
    return found


def operand_embedding(model: nn.Module) -> Tensor:
    """The rows, one for each number, by which a model reads its (first) operand."""
    found: Tensor = model.left if isinstance(model, OneHotNet) else model.embedding  # type: ignore[assignment]
    return whole(found.detach())  # type: ignore[no-any-return]


def fourier_concentration(embedding: Tensor, top: int = TOP_FREQUENCIES) -> float:
    """Share of an embedding's energy, 0..1, in its `top` strongest frequencies over Z_p.

    Of (p, width) rows: the discrete Fourier transform over the p numbers of each column; the energy
    of frequency k = 1 .. p//2 is the squared magnitude summed over the columns (cosine and sine
    together); the mean, k = 0, is left out. Random rows have about `top` / (p//2). A net that groks
    addition needs few frequencies: five in Nanda et al. 2023 (2301.05217), whence `top`.
    """
    energy = torch.fft.rfft(embedding.float(), dim=0)[1:].abs().square().sum(1)
    return float(energy.topk(min(top, len(energy))).values.sum() / energy.sum())


@torch.no_grad()
def weight_norm(model: nn.Module) -> float:
    """Euclidean norm of all parameters."""
    return float(whole(torch.nn.utils.get_total_norm(list(model.parameters()), foreach=True)))
