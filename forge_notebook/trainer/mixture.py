"""A mixture of Hugging Face datasets as documents of text (needs the library `datasets`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from forge_notebook.trainer.config import ConfigError

SHORT, LONG = 0.45, 0.55  # the published mixture: short and long texts, in bytes
FILES = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}


def short_and_long(short: Sequence[str], long: Sequence[str]) -> dict[str, float]:
    """The `datasets` of a configuration as published: 45 % short texts, 55 % long ones.

    >>> short_and_long(["openai/gsm8k"], ["a.jsonl", "b.jsonl"])
    {'openai/gsm8k': 0.45, 'a.jsonl': 0.275, 'b.jsonl': 0.275}
    """
    shares = {name: SHORT / len(short) for name in short}
    return shares | {name: LONG / len(long) for name in long}


def read_mixture(shares: Mapping[str, float]) -> list[bytes]:
    """Documents of all sources, as many of each as its share of the bytes allows, interleaved.

    A source is a file (json, jsonl, csv, parquet, txt), a folder of `Dataset.save_to_disk`, or
    `name` or `name:configuration` on the Hub, whose training split is taken. A document is all text
    of one example. No example is taken twice, so the source that is shortest for its share sets the
    size. Raises ConfigError where the library is missing or a source cannot be read.
    """
    found = {name: _documents(name) for name in shares}
    size = min(sum(map(len, found[name])) / share for name, share in shares.items())
    placed: list[tuple[float, bytes]] = []
    for name, share in shares.items():
        taken = _first(found[name], size * share)
        placed += [((i + 0.5) / len(taken), document) for i, document in enumerate(taken)]
    placed.sort(key=lambda pair: pair[0])  # the end, which is held out, has of all of them
    return [document for _, document in placed]


def _first(documents: list[bytes], size: float) -> list[bytes]:
    taken: list[bytes] = []
    total = 0
    for document in documents:
        if taken and total + len(document) > size:
            break
        taken.append(document)
        total += len(document)
    return taken


def _documents(name: str) -> list[bytes]:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError("datasets= needs Hugging Face's library: pip install datasets") from error
    try:
        examples = _load(datasets, name)
        documents = ["\n".join(_texts(example)).encode() for example in examples]
    except Exception as error:  # the library raises its own, the network's and the disk's
        raise ConfigError(
            f"datasets: {name!r} cannot be read: {type(error).__name__}: {error}"
        ) from error
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise ConfigError(f"datasets: {name!r} has no text")
    return documents


def _load(datasets: Any, name: str) -> Any:
    path = Path(name)
    if path.is_dir():
        found = datasets.load_from_disk(name)
        return found["train"] if "train" in getattr(found, "keys", list)() else found
    if path.suffix in FILES:
        return datasets.load_dataset(FILES[path.suffix], data_files=name, split="train")
    hub, _, configuration = name.partition(":")
    return datasets.load_dataset(hub, configuration or None, split="train")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
