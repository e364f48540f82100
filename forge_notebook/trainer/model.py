"""The models: Cognate (blocks, a memory, an adaptive core) and the one-hot net that groks.

LayerNorm and learned positions instead of RMSNorm and RoPE: a fifth less time per step on a CPU.
The published shape has the latter.

Memory and adaptive steps are there to be observed; at this size they are no gain in the same time:
`tiny` reaches 2.02 bits per byte in 53 s, with two plain blocks and no memory 1.90. In the same
number of steps they are a small one. After 600 steps on text, nats per byte: both 1.375, no memory
1.386, no core 1.387 (0.94 M parameters; both 2026-11).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from forge_notebook.trainer.bank import BankMemory
from forge_notebook.trainer.memory import LinearMemory

PONDER_COST = 0.001  # 0.01 collapses the core to one step (measured on text)


@dataclass(frozen=True)
class Shape:
    """Sizes and the two settings in which the models of a session differ on purpose."""

    vocab: int
    context: int
    width: int
    heads: int
    hidden: int
    blocks: int
    core_steps: int = 0  # at most this often through the shared core block; 0: no core
    memory: bool = False
    halting: float = 0.95
    surprise: float = 0.5
    novelty: float = 0.5
    slots: int = 0  # of a memory that outlasts the batch, instead of the one within a sequence
    top: int = 4
    rope: bool = False  # rotary positions and RMSNorm, as published
    tied: bool = False  # the logits' matrix is the embedding

    def norm(self) -> nn.Module:
        """A new norm of this shape's kind."""
        return nn.RMSNorm(self.width) if self.rope else nn.LayerNorm(self.width)


@dataclass
class Output:
    """Logits, what the loss adds to the cross-entropy, and observations (0-dim tensors)."""

    logits: Tensor
    extra_loss: Tensor | float
    observed: dict[str, Tensor]


class Block(nn.Module):
    """Causal attention and SwiGLU, each after a norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, hidden = shape.width, shape.hidden
        self.heads, self.rope = shape.heads, shape.rope
        self.norm_attention = shape.norm()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm_feed = shape.norm()
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, time, width) to the same shape."""
        # chunk, not permute: its backward copies the three gradients once and not twice
        qkv = self.qkv(self.norm_attention(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in qkv)
        if self.rope:
            q, k = rotate(q), rotate(k)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        # The weight in two, not the result: whole rows are 7 % faster to work on on a CPU.
        fed = self.norm_feed(x)
        gate, value = (F.linear(fed, half) for half in self.up.weight.chunk(2))
        x = x + self.down(F.silu(gate) * value)
        return x


def rotate(x: Tensor) -> Tensor:
    """Rotary positions (2104.09864, theta 10000) of (batch, heads, time, even size)."""
    half = x.shape[-1] // 2
    rate = 10_000 ** (-torch.arange(half, device=x.device) / half)
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * rate
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class AdaptiveCore(nn.Module):
    """One block applied up to `steps` times; every position halts by itself (ACT, Graves 2016)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.steps, self.threshold = shape.core_steps, shape.halting
        self.block = Block(shape)
        self.step_embedding = nn.Parameter(torch.empty(shape.core_steps, shape.width))
        self.halt = nn.Linear(shape.width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of w_t h_t and the expected number of steps of each position."""
        total = torch.zeros_like(x)
        spent = x.new_zeros(x.shape[:-1])
        expected = torch.zeros_like(spent)
        for t in range(self.steps):
            x = self.block(x + self.step_embedding[t])
            p = self.halt(x).squeeze(-1).sigmoid()
            last = (spent + p >= self.threshold) | (t == self.steps - 1)
            weight = torch.where(last, 1 - spent, p)  # 0 once halted: nothing of 1 is left
            total = total + weight[..., None] * x
            expected = expected + (t + 1) * weight
            spent = spent + weight
        return total, expected


class Cognate(nn.Module):
    """Blocks, then the memory, then the adaptive core, then the logits of every position."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.thrifty = False  # compute activations twice instead of keeping them
        self.embedding = nn.Parameter(torch.empty(shape.vocab, shape.width))
        self.position = (
            None if shape.rope else nn.Parameter(torch.empty(shape.context, shape.width))
        )
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.memory = _memory(shape) if shape.memory else None
        self.core = AdaptiveCore(shape) if shape.core_steps else None
        self.norm = shape.norm()
        self.head = None if shape.tied else nn.Linear(shape.width, shape.vocab, bias=False)

    def forward(self, tokens: Tensor) -> Output:
        """Predict the next token at every position of (batch, time) tokens."""
        # index_select: the backward of nn.Embedding is 2 to 20 times slower on a CPU
        x = self.embedding.index_select(0, tokens.flatten()).view(*tokens.shape, -1)
        if self.position is not None:
            x = x + self.position[: tokens.shape[1]]
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.thrifty else block(x)
        observed: dict[str, Tensor] = {}
        extra_loss: Tensor | float = 0.0
        if self.memory is not None:
            read, observed["surprise"], observed["memory_write"] = self.memory(x)
            observed["memory_read"] = read.detach().norm() / x.detach().norm()
            x = x + read
        if self.core is not None:
            x, expected = self.core(x)
            observed["act_steps"] = expected.mean()
            extra_loss = PONDER_COST * observed["act_steps"]
        observed = {name: value.detach() for name, value in observed.items()}
        matrix = self.embedding if self.head is None else self.head.weight
        return Output(F.linear(self.norm(x), matrix), extra_loss, observed)


def _memory(shape: Shape) -> LinearMemory | BankMemory:
    if shape.slots:
        return BankMemory(shape.width, shape.slots, shape.top, shape.surprise, shape.novelty)
    chunk = max(1, shape.context // 4)  # four chunks: momentum is first read in the third
    return LinearMemory(shape.width, shape.heads, chunk, shape.surprise, shape.novelty)


class OneHotNet(nn.Module):
    """One hidden ReLU layer over two one-hot inputs: the smallest net with a textbook plateau."""

    def __init__(self, modulus: int, hidden: int) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.empty(modulus, hidden))
        self.right = nn.Parameter(torch.empty(modulus, hidden))
        self.head = nn.Linear(hidden, modulus, bias=False)

    def forward(self, tokens: Tensor) -> Output:
        """Predict the result from (batch, 2) operands; logits have one position."""
        left = self.left.index_select(0, tokens[:, 0])
        hidden = F.relu(left + self.right.index_select(0, tokens[:, 1]))
        return Output(self.head(hidden)[:, None], 0.0, {})


class BitNet(nn.Module):
    """One hidden ReLU layer over bits as -1 and 1, for parity (as in Barak et al., 2207.08799)."""

    def __init__(self, bits: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(bits, hidden)
        self.head = nn.Linear(hidden, 2, bias=False)

    def forward(self, tokens: Tensor) -> Output:
        """Predict the parity of (batch, bits) zeros and ones; logits have one position."""
        signs = 2.0 * tokens - 1.0
        return Output(self.head(F.relu(self.hidden(signs)))[:, None], 0.0, {})


EMBEDDING_STD = 0.05
HALT_BIAS = -2.0  # begins at 1.9 of 2 steps; from 1.5 the core collapses to one step


def initialize(model: nn.Module, seed: int) -> None:
    """Give a model built on the meta device its weights, without touching torch's global RNG."""
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm | nn.RMSNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0, (3 * module.in_features) ** -0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            else:
                for parameter in module.parameters(recurse=False):
                    parameter.normal_(0, EMBEDDING_STD, generator=generator)
        for buffer in model.buffers():
            buffer.zero_()
        for module in model.modules():
            if isinstance(module, AdaptiveCore):
                module.halt.bias.fill_(HALT_BIAS)
                module.halt.weight.zero_()
                module.block.out.weight.zero_()
                module.block.down.weight.zero_()
