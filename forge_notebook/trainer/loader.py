"""Any DataLoader, Dataset or list of batches as the data of a trainer."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from forge_notebook.trainer.config import ConfigError
from forge_notebook.trainer.data import Batch


class LoaderData:
    """Batches `(x, y)` of token ids (batch, time) from whatever can be iterated again and again.

    `y` are the classes at the last `y.shape[1]` positions. Torch's random numbers are seeded anew
    for each batch, so a shuffling DataLoader and random transforms come out the same when a run is
    resumed; getting back to a position takes the time of reading up to it. `batch_size` of the
    configuration is not used: the loader has its own.
    """

    def __init__(self, train: Iterable[Any], held_out: Iterable[Any], *, classes: int) -> None:
        if not isinstance(train, Sized) or not len(train):
            raise ConfigError("data: the training loader must have a length above 0")
        self.classes = classes
        self._train, self._length = train, len(train)
        self._at: tuple[int, int, Iterator[Any]] | None = None  # seed, position, iterator
        held = [_pair(batch) for batch in held_out]
        if not held:
            raise ConfigError("data: the held-out loader gives no batch")
        self._held_out = torch.cat([x for x, _ in held]), torch.cat([y for _, y in held])
        self.seq_len = self._held_out[0].shape[1]
        self.tokens_per_example = self._held_out[1].shape[1]
        if int(self._held_out[0].max()) >= classes or int(self._held_out[1].max()) >= classes:
            raise ConfigError(f"classes={classes} is not possible: the data has larger ids")

    def batches_per_epoch(self, batch_size: int | None) -> int:
        """Batches in one pass of the loader."""
        return self._length

    def batch(self, seed: int, position: int, batch_size: int | None) -> Batch:
        """The batch at a position counted over all passes."""
        epoch, index = divmod(position, self._length)
        if self._at is None or self._at[:2] != (seed, position) or index == 0:
            with _seeded(seed, epoch * self._length):  # a DataLoader draws here too
                self._at = seed, epoch * self._length, iter(self._train)
        _, at, batches = self._at
        while True:
            with _seeded(seed, at):
                found = next(batches)
            at += 1
            if at > position:
                self._at = seed, at, batches
                return _pair(found)

    def held_out(self) -> Batch:
        """All held-out batches as one."""
        return self._held_out

    def train_sample(self) -> Batch | None:
        """None: what one pass gives may not be there again."""
        return None

    def marks(self) -> dict[str, float]:
        """None known."""
        return {}

    def fingerprint(self) -> str:
        """Length, classes and a checksum of the held-out batches."""
        tokens = torch.cat([part.flatten() for part in self._held_out]).long()
        return f"loader-{self._length}-{self.classes}-{zlib.crc32(tokens.numpy().tobytes()):08x}"


@contextmanager
def _seeded(seed: int, position: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 1_000_003 + position)
        yield


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    x, y = batch
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    return x, y if y.dim() > 1 else y[:, None]
