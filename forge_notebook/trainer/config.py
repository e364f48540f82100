"""What one training session is asked to do. No torch here, so that a server can validate it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal


class ConfigError(ValueError):
    """A configuration that cannot be trained; the text names the field, the value and the range."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a session; the first eight are SPEC's, with its names and defaults.

    An epoch is one pass over the training data in batches. SPEC's 100 epochs of the built-in text
    are hours on a CPU: `max_steps` caps the steps of each model. `demo()` has measured settings.

    Parameters
    ----------
    model_count
        Models, trained one after the other; 1 to 100.
    batch_size
        Examples in a step; None: all of them in every step (not for text).
    learning_rate
        AdamW's; Muon's is 20/3 of it.
    epochs
        Passes over the training data.
    progress_update_interval
        Steps between two progress records.
    checkpoint_interval
        Steps between two checkpoints.
    max_retries
        Rollbacks to a checkpoint, for each model.
    enable_recovery
        Whether to mend what goes wrong; else it ends the training.
    task
        Bytes of text; modular arithmetic, which groks; the parity of a few of many bits, which does
        too.
    preset
        Shape of the models: `tiny`, `cognate-25m` (the published one), `onehot` (not for text).
        Of the published 25 M parameters the vocabulary of 32,000 tokens is more than half: on bytes
        there are 9.3 M. The session's `modelParams` are counted.
    variants
        Whether the models differ as published, or by their seed only.
    halting, memory, tied
        The adaptive core, else a plain block in its place; the slot memory; whether the logits'
        matrix is the embedding. The first two are there to be observed: at this size neither is a
        gain (measured, `trainer/model.py`).
    seed
        Model i uses `seed + 1000 * i`, for weights and data order.
    max_steps
        Cap on the steps of each model; None: none.
    eval_interval
        Steps between two evaluations on the held-out data.
    optimizer
        `auto`: Muon on text, else AdamW.
    weight_decay
        Per step, times the learning rate; None: 0.1 on text, else 1.0.
    device, precision, compile
        `cpu` or `cuda`; `bf16` computes products and attention of the training in half the bits;
        whether torch.compile makes the forward and backward faster, after a minute of compiling.
        Tested on CPUs only: no GPU was there to test `cuda` on.
    threads
        Of torch; `auto`: measured at the start, 1 against all cores.
    corpus
        Text that ships with Python: the reference behind `help()`, or the standard library's code.
    data
        Path of a text file or folder instead of the corpus.
    datasets
        Hugging Face datasets and their shares of the bytes, instead of the corpus; as published:
        `trainer.mixture.short_and_long([...], [...])`, 45 % short and 55 % long texts.
    seq_len
        Bytes in an example; 16 to 1024.
    modulus, operation
        The arithmetic to learn; `divide` needs a prime.
    bits, parity_of, examples
        The parity to learn: of `parity_of` of `bits` bits, from so many random examples; as many
        others are held out.
    train_fraction
        Share of all pairs that is trained on; the others are held out.
    grokfast, grokfast_alpha, grokfast_lambda
        Whether slow gradients are amplified; the average's decay per step, and its factor.

    Raises
    ------
    ConfigError
        For a value out of its range; the text names the field, the value and the range.

    >>> import forge_notebook as forge
    >>> forge.TrainingConfig(model_count=0)
    Traceback (most recent call last):
    forge_notebook.trainer.config.ConfigError: model_count=0 is not possible: ...
    """

    model_count: int = 3
    batch_size: int | None = 32  # None: all training examples in every step (modular only)
    learning_rate: float = 0.001
    epochs: int = 100
    progress_update_interval: int = 10
    checkpoint_interval: int = 100
    max_retries: int = 3  # rollbacks per model
    enable_recovery: bool = True

    task: Literal["text", "modular", "parity"] = "text"
    preset: Literal["tiny", "onehot", "cognate-25m"] = "tiny"
    variants: Literal["published", "seeds"] = "published"  # the models differ on purpose, or not
    halting: bool = True  # the adaptive core
    memory: bool = True
    tied: bool = False  # the logits' matrix is the embedding
    seed: int = 42  # model i uses seed + 1000 * i
    max_steps: int | None = None
    eval_interval: int = 50
    optimizer: Literal["auto", "adamw", "muon"] = "auto"  # auto: muon on text, adamw on modular
    weight_decay: float | None = None  # None: 0.1 on text, 1.0 on modular
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    threads: int | Literal["auto"] = "auto"  # auto: measured at the start, 1 against all cores

    corpus: Literal["python-docs", "stdlib"] = "python-docs"
    datasets: dict[str, float] | None = None  # name of a Hugging Face dataset: share of the bytes
    data: str | None = None  # path of a text file or folder, instead of the corpus
    seq_len: int = 64

    modulus: int = 59
    operation: Literal["add", "subtract", "multiply", "divide", "squares"] = "add"
    train_fraction: float = 0.4
    bits: int = 20
    parity_of: int = 3
    examples: int = 400

    grokfast: bool = False
    grokfast_alpha: float = 0.98
    grokfast_lambda: float = 2.0

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            value = getattr(self, name)
            if not rule.accepts(value):
                raise ConfigError(f"{name}={value!r} is not possible: {name} must be {rule.range}")
        if self.task == "text" and self.preset == "onehot":
            raise ConfigError("preset='onehot' is not possible with task='text': use 'tiny'")
        if self.operation == "divide" and any(
            self.modulus % divisor == 0 for divisor in range(2, math.isqrt(self.modulus) + 1)
        ):
            raise ConfigError(
                f"modulus={self.modulus} is not possible with operation='divide': give a prime"
            )
        if self.task == "text" and self.batch_size is None:
            raise ConfigError("batch_size=None (the full batch) is not for task='text'")
        if self.data is not None and self.datasets is not None:
            raise ConfigError("data and datasets exclude each other: give one of them")
        if self.task == "parity" and self.parity_of > self.bits:
            raise ConfigError(
                f"parity_of={self.parity_of} is not possible with bits={self.bits}: "
                f"give at most {self.bits}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """Build from a mapping. Raises ConfigError, for an unknown key with the nearest field."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                near = get_close_matches(str(key), known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"unknown training setting {key!r}{hint}")
        return cls(**values)

    @classmethod
    def demo(cls, name: Literal["text", "grok"] = "text", **changes: Any) -> TrainingConfig:
        """Settings measured on two CPU cores; they need no download.

        `changes` replace single fields. Raises ConfigError for another name or field.
        """
        if name not in DEMOS:
            raise ConfigError(f"unknown demo {name!r}; there are {', '.join(map(repr, DEMOS))}")
        return cls.from_dict({**DEMOS[name], **changes})

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values; `from_dict` gives the same configuration back."""
        return asdict(self)


@dataclass(frozen=True)
class _Rule:
    accepts: Callable[[Any], bool]
    range: str


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(low: int, high: int) -> _Rule:
    return _Rule(lambda v: _is_int(v) and low <= v <= high, f"an integer from {low} to {high}")


def _number(low: float, high: float, *, above: bool = False, below: bool = False) -> _Rule:
    def accepts(v: float) -> bool:
        if not (_is_int(v) or isinstance(v, float)) or not math.isfinite(v):
            return False
        high_enough = v > low if above else v >= low
        return high_enough and (v < high if below else v <= high)

    lower = f"above {low}" if above else f"at least {low}"
    upper = f"below {high}" if below else f"at most {high}"
    return _Rule(accepts, f"a number {lower} and {upper}")


def _choice(*names: str) -> _Rule:
    return _Rule(
        lambda v: isinstance(v, str) and v in names, "one of " + ", ".join(map(repr, names))
    )


def _are_shares(value: Any) -> bool:
    share = _number(0, 1e9, above=True)
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) and name for name in value)
        and all(share.accepts(number) for number in value.values())
    )


def _boolean() -> _Rule:
    return _Rule(lambda v: isinstance(v, bool), "True or False")


def _or(special: Any, rule: _Rule) -> _Rule:
    def accepts(v: Any) -> bool:
        return (isinstance(v, type(special)) and v == special) or rule.accepts(v)

    return _Rule(accepts, f"{special!r} or {rule.range}")


_RULES = {
    "model_count": _integer(1, 100),
    "batch_size": _or(None, _integer(1, 1_000_000)),
    "learning_rate": _number(0, 10, above=True),
    "epochs": _integer(1, 1_000_000),
    "progress_update_interval": _integer(1, 1_000_000),
    "checkpoint_interval": _integer(1, 1_000_000),
    "max_retries": _integer(0, 100),
    "enable_recovery": _boolean(),
    "task": _choice("text", "modular", "parity"),
    "preset": _choice("tiny", "onehot", "cognate-25m"),
    "variants": _choice("published", "seeds"),
    "halting": _boolean(),
    "memory": _boolean(),
    "tied": _boolean(),
    "seed": _integer(0, 2**40),
    "max_steps": _or(None, _integer(1, 1_000_000_000)),
    "eval_interval": _integer(1, 1_000_000),
    "optimizer": _choice("auto", "adamw", "muon"),
    "weight_decay": _or(None, _number(0, 100)),
    "device": _choice("cpu", "cuda"),
    "precision": _choice("fp32", "bf16"),
    "compile": _boolean(),
    "threads": _or("auto", _integer(1, 1024)),
    "corpus": _choice("python-docs", "stdlib"),
    "data": _or(
        None, _Rule(lambda v: isinstance(v, str) and v != "", "the path of a text file or folder")
    ),
    "datasets": _or(None, _Rule(_are_shares, "names with shares above 0")),
    "seq_len": _integer(16, 1024),
    "modulus": _integer(5, 257),
    "operation": _choice("add", "subtract", "multiply", "divide", "squares"),
    "train_fraction": _number(0, 1, above=True, below=True),
    "bits": _integer(12, 64),  # below, a thousand examples would be most of all there are
    "parity_of": _integer(2, 64),
    "examples": _integer(10, 100_000),
    "grokfast": _boolean(),
    "grokfast_alpha": _number(0, 1, above=True, below=True),
    "grokfast_lambda": _number(0, 100),
}

# Text: Muon's 0.02 is learning_rate * 20 / 3 (optim.py); 16 x 64 learns most per second here.
# Grok: full batch, so that memorizing and generalizing are apart; weight decay times learning rate
# sets the length of the plateau.
DEMOS: dict[str, dict[str, Any]] = {
    "text": {
        "task": "text",
        "batch_size": 16,
        "seq_len": 64,
        "learning_rate": 0.003,
        "max_steps": 300,
        "eval_interval": 20,
    },
    "grok": {
        "task": "modular",
        "preset": "onehot",
        "model_count": 1,
        "batch_size": None,
        "learning_rate": 0.01,
        "weight_decay": 1.0,
        "epochs": 2000,
        "eval_interval": 10,
    },
}
