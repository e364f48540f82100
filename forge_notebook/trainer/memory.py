"""The memory of a Cognate model: one matrix per head, written while a sequence is read.

After Titans (2501.00663): a surprising value is written, momentum carries surprise on, forgetting
lets it fade. Linear and parallel over chunks: a chunk is read with the memory as the chunks before
it left it, so no position sees itself or its future.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-3  # floor of surprise and novelty: x ** w has no gradient at 0


class LinearMemory(nn.Module):
    """Linear attention over what earlier chunks wrote; returns the read and how it came about."""

    def __init__(self, width: int, heads: int, chunk: int, surprise: float, novelty: float) -> None:
        super().__init__()
        self.heads, self.chunk = heads, chunk
        self.surprise_weight, self.novelty_weight = surprise, novelty
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.gates = nn.Linear(width, 3 * heads)  # write strength, forgetting, momentum
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what to add to `x`, the mean surprise and the mean write gate."""
        x = self.norm(x)
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = (part.contiguous() for part in parts)
        q, k = _unit(q), _unit(k)
        write, forget, momentum = self.gates(x).sigmoid().unflatten(-1, (self.heads, 3)).unbind(-1)
        # split, not slices: the backward of a slice fills and adds a whole tensor of zeros
        pieces = [part.split(self.chunk, dim=2) for part in (q, k, v, _length(v))]
        gates = [part.mT.split(self.chunk, dim=2) for part in (write, forget, momentum)]

        matrix = x.new_zeros(x.shape[0], self.heads, k.shape[-1], v.shape[-1])
        drive = torch.zeros_like(matrix)
        reads, surprises, written = [], [], []
        for queries, keys, values, length, strength, fade, carry in zip(
            *pieces, *gates, strict=True
        ):
            reads.append(queries @ matrix)
            recalled = keys @ matrix
            error = values - recalled
            surprise, novelty = _compare(values, length, recalled, error)
            gate = strength * self._write_weight(surprise, novelty)
            # The mean over the chunk keeps the update a contraction: unit keys, eigenvalues <= 1.
            step = keys.mT @ (error * (gate / keys.shape[2])[..., None])
            drive = _over(carry) * drive + step
            matrix = (1 - 0.5 * _over(fade)) * matrix + drive
            surprises.append(surprise)
            written.append(gate)
        read = torch.cat(reads, dim=2).transpose(1, 2).flatten(2)
        return self.out(read), torch.cat(surprises, 2).mean(), torch.cat(written, 2).mean()

    def _write_weight(self, surprise: Tensor, novelty: Tensor) -> Tensor:
        weighted = surprise.clamp_min(EPS) ** self.surprise_weight
        return weighted * novelty.clamp_min(EPS) ** self.novelty_weight


def _compare(
    values: Tensor, length: Tensor, recalled: Tensor, error: Tensor
) -> tuple[Tensor, Tensor]:
    """Surprise (relative error, 0..1) and novelty (1 - cosine, 0..1) of each position."""
    recalled_length = _length(recalled)
    surprise = _length(error) / (length + recalled_length + EPS)
    cosine = (values * recalled).sum(-1) / (length * recalled_length).clamp_min(EPS**2)
    return surprise, 1 - cosine.clamp_min(0)


def _length(x: Tensor) -> Tensor:
    return (x.square().sum(-1) + EPS**2).sqrt()  # the backward of `norm` is 4 times slower


def _unit(x: Tensor) -> Tensor:
    return x * (x.square().sum(-1, keepdim=True) + EPS**2).rsqrt()


def _over(gate: Tensor) -> Tensor:
    return gate.mean(dim=2)[..., None, None]  # one rate per head and chunk
