import itertools

import pytest
import torch

from forge_notebook.trainer.config import ConfigError, TrainingConfig
from forge_notebook.trainer.data import (
    ModularData,
    ParityData,
    TextData,
    load_data,
    split_documents,
)
from forge_notebook.trainer.presets import build_model


@pytest.fixture(scope="module")
def docs() -> TextData:
    data = load_data(TrainingConfig())
    assert isinstance(data, TextData)
    return data


def test_training_pairs_and_held_out_pairs_are_all_pairs_once() -> None:
    data = ModularData(59, "add", 0.4, seed=42)
    train, val = ({tuple(pair) for pair in part.tolist()} for part in (data.train[0], data.val[0]))
    assert not train & val
    assert len(train | val) == 59 * 59


def test_held_out_text_is_not_in_the_training_text(docs: TextData) -> None:
    train, held = docs._train_text, docs.held_out_text
    length = 120
    seen = {train[at : at + length] for at in range(len(train) - length)}
    repeated = sum(held[at : at + length] in seen for at in range(len(held) - length))
    assert repeated / len(held) < 0.005  # what is left are tables of operators and the like


def test_paragraph_quoted_by_held_out_text_leaves_the_training_text() -> None:
    quoted = b"A paragraph that two topics of the documentation have in common."
    indented = quoted.replace(b" two", b"\n      two")
    train, held = split_documents([b"x" * 900 + b"\n\n" + indented, quoted + b"\n\n" + b"y" * 90])
    assert b"documentation" not in train
    assert quoted in held


def test_an_epoch_is_one_pass_over_the_windows(docs: TextData) -> None:
    batches = docs.batches_per_epoch(32)
    docs.batch(1, 0, 32)
    assert docs._order is not None
    starts = docs._order[1]
    assert len(set(starts.tolist())) == len(starts)
    assert batches == len(starts) // 32
    assert int(starts.max()) + docs.seq_len < len(docs._train)


def test_batch_depends_on_seed_and_position_alone(docs: TextData) -> None:
    first, _ = docs.batch(1, 5, 8)
    docs.batch(2, 900, 8)
    torch.rand(3)
    assert torch.equal(first, docs.batch(1, 5, 8)[0])
    assert not torch.equal(first, docs.batch(2, 5, 8)[0])
    assert not torch.equal(first, docs.batch(1, 6, 8)[0])


def test_marks_are_levels_of_compressors_in_bits_per_byte(docs: TextData) -> None:
    marks = docs.marks()
    assert 1 < marks["xz"] < marks["zlib"] < 3


def test_text_of_the_user_is_trained_on() -> None:
    data = load_data(TrainingConfig(seq_len=16), "a" * 900 + "b" * 100)
    assert set(data.batch(0, 0, 4)[0].flatten().tolist()) == {ord("a")}
    assert set(data.held_out()[0].flatten().tolist()) == {ord("b")}


def test_parity_is_of_a_few_bits_and_no_example_is_on_both_sides() -> None:
    data = load_data(TrainingConfig(task="parity", preset="onehot", seed=3))
    assert isinstance(data, ParityData)
    (x, y), (held_x, held_y) = data.train, data.val
    assert x.shape == held_x.shape == (400, 20)
    both = torch.cat([x, held_x])
    assert len(both.unique(dim=0)) == 800
    fitting = []
    labels = {
        tuple(row.tolist()): int(label)
        for row, label in zip(both, torch.cat([y, held_y]), strict=True)
    }
    for triple in itertools.combinations(range(20), 3):
        if all(sum(row[i] for i in triple) % 2 == label for row, label in labels.items()):
            fitting.append(triple)
    assert len(fitting) == 1


def test_parity_of_too_few_bits_is_refused() -> None:
    with pytest.raises(ConfigError, match="12 bits gave"):
        load_data(TrainingConfig(task="parity", preset="onehot", bits=12, examples=3000))
    with pytest.raises(ConfigError, match="parity_of=30 is not possible with bits=20"):
        TrainingConfig(task="parity", preset="onehot", parity_of=30)


def test_both_kinds_of_model_take_the_bits() -> None:
    for preset in ("onehot", "tiny"):
        config = TrainingConfig.from_dict({"task": "parity", "preset": preset})
        data = load_data(config)
        x, _ = data.batch(0, 0, 8)
        assert build_model(config, data, 0)(x).logits.shape[0] == 8
