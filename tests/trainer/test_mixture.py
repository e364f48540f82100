"""Datasets of Hugging Face's library, from small local files; nothing is downloaded."""

import json
import sys
from pathlib import Path

import pytest

from forge_notebook.trainer.config import ConfigError, TrainingConfig
from forge_notebook.trainer.data import TextData, load_data
from forge_notebook.trainer.mixture import read_mixture, short_and_long


def write(path: Path, letter: str, count: int, size: int) -> str:
    examples = [
        {"id": i, "question": f"{letter * size} {i}" if size else "", "context": [letter, ""]}
        for i in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, examples)))
    return str(path)


def test_documents_have_the_shares_of_the_published_mixture(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    short = write(tmp_path / "short.jsonl", "s", 400, 50)
    long = write(tmp_path / "long.jsonl", "l", 60, 1000)
    documents = read_mixture(short_and_long([short], [long]))
    sizes = {letter: sum(d.count(letter) for d in documents) for letter in (b"s", b"l")}
    assert sizes[b"s"] / sum(sizes.values()) == pytest.approx(0.45, abs=0.02)
    assert sizes[b"s"] == 400 * 51  # the shorter source is used up, the other cut to fit
    assert {d[:1] for d in documents[-len(documents) // 10 :]} == {b"s", b"l"}
    data = load_data(TrainingConfig(datasets=short_and_long([short], [long])))
    assert isinstance(data, TextData)


def test_saved_dataset_and_its_training_split_are_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_dict({"text": ["first", "second"], "label": [0, 1]})
    one.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": one}).save_to_disk(tmp_path / "split")
    for folder in ("one", "split"):
        assert read_mixture({str(tmp_path / folder): 1}) == [b"first", b"second"]


def test_source_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    missing = str(tmp_path / "missing.jsonl")
    with pytest.raises(ConfigError, match=r"missing\.jsonl' cannot be read"):
        read_mixture({missing: 1})
    with pytest.raises(ConfigError, match="has no text"):
        read_mixture({write(tmp_path / "empty.jsonl", "", 3, 0): 1})


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match="pip install datasets"):
        load_data(TrainingConfig(datasets={"openai/gsm8k": 1}))


@pytest.mark.parametrize("shares", [{}, {"a": 0}, {"a": float("nan")}, {1: 1}, ["a"]])
def test_impossible_shares_are_refused(shares: object) -> None:
    with pytest.raises(ConfigError, match="names with shares above 0"):
        TrainingConfig.from_dict({"datasets": shares})
