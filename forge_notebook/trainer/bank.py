"""A memory that outlasts the batch: slots written by surprise and novelty, read by attention.

The published Cognate has 4096 slots and reads 4 of them. Only training writes, after it has read,
so no position sees itself or its future, and an evaluation changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6
WRITES = 2  # positions of each sequence that are written


class BankMemory(nn.Module):
    """`slots` hidden states; the buffers are part of the model's state and of its checkpoints."""

    states: Tensor
    written: Tensor

    def __init__(
        self, width: int, slots: int, top: int, surprise_weight: float, novelty_weight: float
    ) -> None:
        super().__init__()
        self.top = top
        self.surprise_weight, self.novelty_weight = surprise_weight, novelty_weight
        self.norm = nn.RMSNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 1)
        self.out = nn.Linear(width, width, bias=False)
        self.register_buffer("states", torch.zeros(slots, width))
        self.register_buffer("written", torch.zeros((), dtype=torch.long))  # since the start

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what to add to (batch, time, width) `x`, the mean surprise, the mean write."""
        x = self.norm(x)
        filled = min(int(self.written), len(self.states))
        if filled < self.top:
            surprise, novelty = x.new_ones(x.shape[:2]), x.new_ones(x.shape[:2])
            read = torch.zeros_like(x)
        else:
            read, recalled, nearest = self._read(x, self.states[:filled])
            surprise = (x - recalled).norm(dim=-1) / (x.norm(dim=-1) + recalled.norm(dim=-1) + EPS)
            novelty = 1 - nearest.clamp(0, 1)  # a cosine may come out above 1
        weight = (surprise**self.surprise_weight * novelty**self.novelty_weight).detach()
        if torch.is_grad_enabled():
            self._write(x.detach(), weight)
        return read, surprise.mean(), weight.mean()

    def _read(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query = F.normalize(self.query(x), dim=-1)
        with torch.no_grad():  # all slots are compared, only those chosen carry a gradient
            chosen = (query @ F.normalize(self.key(states), dim=-1).T).topk(self.top).indices
            alike = F.normalize(x, dim=-1) @ F.normalize(states, dim=-1).T
        found = states[chosen]  # batch, time, top, width
        likeness = (query[..., None, :] * F.normalize(self.key(found), dim=-1)).sum(-1)
        share = (likeness * found.shape[-1] ** 0.5).softmax(-1)
        values = (share[..., None] * self.value(found)).sum(-2)
        recalled = (share[..., None] * found).sum(-2).detach()
        return self.gate(x).sigmoid() * self.out(values), recalled, alike.amax(-1)

    @torch.no_grad()
    def _write(self, x: Tensor, weight: Tensor) -> None:
        best = weight.topk(min(WRITES, x.shape[1]), dim=1).indices
        new = x.gather(1, best[..., None].expand(-1, -1, x.shape[-1])).flatten(0, 1)
        new = new[-len(self.states) :]
        slots = (int(self.written) + torch.arange(len(new), device=x.device)) % len(self.states)
        self.states[slots] = new.to(self.states.dtype)  # the oldest give way
        self.written += len(new)
