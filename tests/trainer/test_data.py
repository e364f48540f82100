import pytest
import torch

from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.data import ModularData, TextData, load_data, split_documents


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
    train, held = docs._train_text, docs._val_text
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
