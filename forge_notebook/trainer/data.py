"""What the models learn from: text that ships with Python, and modular arithmetic.

A batch is a function of (seed, position) alone, so that a run can be repeated or taken up again at
any batch. Training and held-out data never share an example: text is cut between documents, and a
paragraph that stands on both sides (the topics of pydoc quote each other) stays only in held-out.
"""

from __future__ import annotations

import lzma
import re
import sysconfig
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from forge_notebook.trainer.config import ConfigError, TrainingConfig
from forge_notebook.trainer.mixture import read_mixture

HELD_OUT = 0.1
SHORTEST_QUOTE = 40  # bytes; shorter paragraphs ("Note:", "}") repeat in any text
VAL_WINDOWS = 64  # 4096 positions: 0.1 s on two cores
LONGEST_MARK = 1 << 20  # compress at most this much training text: xz takes 0.5 s per MB

Batch = tuple[Tensor, Tensor]


class Data(Protocol):
    """What the loop needs of a task; `y` are classes at the last `y.shape[1]` positions."""

    classes: int
    seq_len: int
    tokens_per_example: int

    def batches_per_epoch(self, batch_size: int | None) -> int:
        """Batches in one pass over the training data."""
        ...

    def batch(self, seed: int, position: int, batch_size: int | None) -> Batch:
        """The training batch at a position counted over all epochs."""
        ...

    def held_out(self) -> Batch:
        """The same held-out examples at every call."""
        ...

    def train_sample(self) -> Batch | None:
        """Training examples to measure memorization on, if that means something here."""
        ...

    def marks(self) -> dict[str, float]:
        """Known levels to compare `bits_per_byte` with."""
        ...

    def fingerprint(self) -> str:
        """The same text for the same data: a checkpoint belongs to one."""
        ...


class TextData:
    """Bytes cut into windows; a pass starts at a random phase and shuffles the windows."""

    classes = 256

    def __init__(self, train: bytes, held_out: bytes, seq_len: int) -> None:
        self.seq_len = self.tokens_per_example = seq_len
        for name, text in (("training", train), ("held-out", held_out)):
            if len(text) < 2 * (seq_len + 1):
                raise ConfigError(
                    f"seq_len={seq_len} is not possible: the {name} text has {len(text)} bytes"
                )
        self._train_text, self.held_out_text = train, held_out
        self._train, self._val = _tensor(train), _tensor(held_out)
        self._order: tuple[tuple[int, int], Tensor] | None = None

    @property
    def _windows(self) -> int:
        return (len(self._train) - self.seq_len) // self.seq_len  # at any phase < seq_len

    def batches_per_epoch(self, batch_size: int | None) -> int:
        """Full batches in one pass."""
        assert batch_size is not None
        if batch_size > self._windows:
            raise ConfigError(
                f"batch_size={batch_size} is not possible: the training text has {self._windows} "
                f"windows of seq_len={self.seq_len}"
            )
        return self._windows // batch_size

    def batch(self, seed: int, position: int, batch_size: int | None) -> Batch:
        """Windows of the pass that `position` falls in."""
        assert batch_size is not None
        epoch, index = divmod(position, self.batches_per_epoch(batch_size))
        starts = self._starts(seed, epoch)[index * batch_size : (index + 1) * batch_size]
        return self._cut(self._train, starts)

    def held_out(self) -> Batch:
        """Windows spread evenly over the held-out text."""
        last = len(self._val) - self.seq_len - 1
        count = min(VAL_WINDOWS, last // self.seq_len + 1)
        return self._cut(self._val, torch.linspace(0, last, count).long())

    def train_sample(self) -> Batch | None:
        """None: text has its own entropy and is not memorized at this size."""
        return None

    def marks(self) -> dict[str, float]:
        """Bits per held-out byte of compressors that have seen the training text."""
        known = self._train_text[-LONGEST_MARK:]
        both = known + self.held_out_text
        bits = 8 / len(self.held_out_text)
        return {
            "zlib": round(bits * (len(zlib.compress(both, 9)) - len(zlib.compress(known, 9))), 3),
            "xz": round(bits * (len(lzma.compress(both)) - len(lzma.compress(known))), 3),
        }

    def fingerprint(self) -> str:
        """Checksums of both texts, and the window."""
        parts = (self._train_text, self.held_out_text)
        return f"text-{self.seq_len}-" + "-".join(f"{zlib.crc32(part):08x}" for part in parts)

    def _starts(self, seed: int, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != (seed, epoch):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            phase = int(torch.randint(self.seq_len, (1,), generator=generator))
            order = torch.randperm(self._windows, generator=generator)
            self._order = (seed, epoch), phase + order * self.seq_len
        return self._order[1]

    def _cut(self, text: Tensor, starts: Tensor) -> Batch:
        windows = text[starts[:, None] + torch.arange(self.seq_len + 1)].long()
        return windows[:, :-1], windows[:, 1:]


OPERATIONS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "add": lambda a, b, p: a + b,
    "subtract": lambda a, b, p: a - b,
    "multiply": lambda a, b, p: a * b,
    "divide": lambda a, b, p: a * _inverse(b, p),
    "squares": lambda a, b, p: a * a + b * b,
}


def _inverse(b: Tensor, modulus: int) -> Tensor:
    return torch.tensor([pow(int(value), -1, modulus) for value in b])


class Examples:
    """Single examples, some to train on and the others held out, each with one class."""

    classes: int
    seq_len: int
    tokens_per_example = 1
    cyclic = False  # whether the classes are numbers that are added round a circle
    train: Batch
    val: Batch

    def batches_per_epoch(self, batch_size: int | None) -> int:
        """1 for the full batch."""
        size = len(self.train[0])
        if batch_size is not None and batch_size > size:
            raise ConfigError(
                f"batch_size={batch_size} is not possible: there are {size} training examples; "
                f"None takes them all"
            )
        return size // (batch_size or size)

    def batch(self, seed: int, position: int, batch_size: int | None) -> Batch:
        """Examples of the pass that `position` falls in."""
        if batch_size is None:
            return self.train
        epoch, index = divmod(position, self.batches_per_epoch(batch_size))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.train[0]), generator=generator)
        chosen = order[index * batch_size : (index + 1) * batch_size]
        return self.train[0][chosen], self.train[1][chosen]

    def held_out(self) -> Batch:
        """Everything that is not trained on."""
        return self.val

    def train_sample(self) -> Batch | None:
        """Everything that is trained on."""
        return self.train

    def marks(self) -> dict[str, float]:
        """None known."""
        return {}

    def fingerprint(self) -> str:
        """Checksum of the training examples and their classes."""
        parts = torch.cat([self.train[0].flatten(), self.train[1].flatten()])
        name = type(self).__name__.removesuffix("Data").lower()
        return f"{name}-{self.classes}-{zlib.crc32(parts.numpy().tobytes()):08x}"


class ModularData(Examples):
    """All pairs (a, b) with a known result mod p, split at random by the seed of the session."""

    seq_len = 2

    def __init__(self, modulus: int, operation: str, train_fraction: float, seed: int) -> None:
        self.classes = modulus
        self.cyclic = operation in ("add", "subtract")
        pairs = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus))
        if operation == "divide":
            pairs = pairs[pairs[:, 1] > 0]
        a, b = pairs.unbind(1)
        result = OPERATIONS[operation](a, b, modulus) % modulus
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
        cut = round(train_fraction * len(pairs))
        if not 0 < cut < len(pairs):
            raise ConfigError(f"train_fraction={train_fraction} leaves one side without a pair")
        self.train = pairs[order[:cut]], result[order[:cut], None]
        self.val = pairs[order[cut:]], result[order[cut:], None]


class ParityData(Examples):
    """Random bits and the parity of a few of them; which ones, the seed of the session says."""

    classes = 2

    def __init__(self, bits: int, parity_of: int, examples: int, seed: int) -> None:
        self.seq_len = bits
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(2, (3 * examples, bits), generator=generator)
        drawn = torch.unique(drawn, dim=0)
        x = drawn[torch.randperm(len(drawn), generator=generator)[: 2 * examples]]
        if len(x) < 2 * examples:
            raise ConfigError(
                f"examples={examples} is not possible: {bits} bits gave {len(x)} different ones "
                f"for both sides"
            )
        chosen = torch.randperm(bits, generator=generator)[:parity_of]
        y = x[:, chosen].sum(1, keepdim=True) % 2
        self.train, self.val = (x[:examples], y[:examples]), (x[examples:], y[examples:])


def load_data(config: TrainingConfig, text: str | bytes | None = None) -> Data:
    """The data of a configuration, or windows of the given text."""
    if config.task != "text" and (text is not None or config.data or config.datasets):
        raise ConfigError(f"task={config.task!r} makes its own data: leave `data` out")
    if config.task == "parity":
        return ParityData(config.bits, config.parity_of, config.examples, config.seed)
    if config.task == "modular":
        return ModularData(config.modulus, config.operation, config.train_fraction, config.seed)
    if text is not None:
        documents = [text.encode() if isinstance(text, str) else bytes(text)]
    elif config.data is not None:
        documents = _read(config.data)
    elif config.datasets is not None:
        documents = read_mixture(config.datasets)
    else:
        documents = _DOCUMENTS[config.corpus]()
    train, held_out = split_documents(documents)
    return TextData(train, held_out, config.seq_len)


def split_documents(documents: list[bytes]) -> tuple[bytes, bytes]:
    """Cut between documents near 90 % (inside, if there is one), and drop what stands in both."""
    total = sum(map(len, documents))
    if len(documents) == 1:
        cut = int(total * (1 - HELD_OUT))
        return documents[0][:cut], documents[0][cut:]
    held: list[bytes] = []
    while len(documents) > 1 and sum(map(len, held)) < HELD_OUT * total:
        held.insert(0, documents[-1])
        documents = documents[:-1]
    quoted = {_key(part) for part in _paragraphs(held)}
    kept = (
        part
        for part in _paragraphs(documents)
        if len(_key(part)) < SHORTEST_QUOTE or _key(part) not in quoted
    )
    return b"\n\n".join(kept), b"\n\n".join(held)


def _paragraphs(documents: Iterable[bytes]) -> Iterable[bytes]:
    for document in documents:
        yield from document.split(b"\n\n")


def _key(paragraph: bytes) -> bytes:
    return re.sub(rb"\s+", b" ", paragraph).strip()  # quotes are indented or wrapped anew


def _tensor(text: bytes) -> Tensor:
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def _read(path: str) -> list[bytes]:
    """The file, or every file of the folder that is text (UTF-8), in the order of the names."""
    root = Path(path).expanduser()
    try:
        if not root.is_dir():
            return [root.read_bytes()]
        files = [file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()]
    except OSError as error:
        raise ConfigError(f"data={path!r} cannot be read: {error.strerror}") from error
    texts = [text for text in files if _is_text(text)]
    if not texts:
        raise ConfigError(f"data={path!r} is not possible: the folder has no text file")
    return texts


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def _python_docs() -> list[bytes]:
    from pydoc_data.topics import topics

    return [topics[name].encode() for name in sorted(topics)]


def _stdlib() -> list[bytes]:
    folder = Path(sysconfig.get_path("stdlib"))
    return [path.read_bytes() for path in sorted(folder.glob("*.py"))]


_DOCUMENTS = {"python-docs": _python_docs, "stdlib": _stdlib}
