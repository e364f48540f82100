from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from forge_notebook.trainer.cognate import CognateTrainer
from forge_notebook.trainer.config import ConfigError, TrainingConfig
from forge_notebook.trainer.data import TextData, load_data
from forge_notebook.trainer.loader import LoaderData


class Noisy(Dataset[Any]):
    """Draws random numbers, as an augmentation does."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randint(0, 7, (5,))
        x[0] = index % 7
        return x, x.roll(-1)


def loader_data() -> LoaderData:
    return LoaderData(
        DataLoader(Noisy(), batch_size=8, shuffle=True),
        [(torch.arange(10).view(2, 5) % 7, torch.arange(10).view(2, 5) % 7)],
        classes=7,
    )


def test_batches_of_a_shuffling_loader_depend_on_seed_and_position_alone() -> None:
    first, second = loader_data(), loader_data()
    state = torch.get_rng_state()
    straight = [first.batch(1, position, None)[0] for position in range(12)]
    assert torch.equal(state, torch.get_rng_state())
    for position in (7, 3, 11, 0, 5):
        torch.rand(2)
        assert torch.equal(second.batch(1, position, None)[0], straight[position])
    assert not torch.equal(second.batch(2, 0, None)[0], straight[0])
    assert not torch.equal(straight[0], straight[5])


def test_loader_is_trained_on(tmp_path: Path) -> None:
    config = {"model_count": 1, "max_steps": 12, "threads": 1}
    trainer = CognateTrainer(config, data=loader_data(), store=tmp_path).fit()
    metrics = trainer.metrics
    assert metrics is not None
    assert metrics["totalSteps"] == 12
    assert metrics["extra"]["epoch"] == pytest.approx(12 / 5)


def test_impossible_loader_is_refused() -> None:
    held = [(torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2, dtype=torch.long))]
    with pytest.raises(ConfigError, match="length above 0"):
        LoaderData([], held, classes=5)
    with pytest.raises(ConfigError, match="gives no batch"):
        LoaderData(held, [], classes=5)
    data = TensorDataset(torch.full((4, 2), 9), torch.full((4, 2), 9))
    with pytest.raises(ConfigError, match="classes=5 is not possible"):
        LoaderData(held, DataLoader(data), classes=5)


def test_folder_is_read_in_order_without_what_is_no_text(tmp_path: Path) -> None:
    for name, content in {"b": b"b" * 300, "a/x": b"a" * 3000, "c": b"\xff\xfe\x00" * 99}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    data = load_data(TrainingConfig(data=str(tmp_path), seq_len=16, batch_size=1))
    assert isinstance(data, TextData)
    assert set(data._train_text) == set(b"a")
    assert set(data.held_out_text) == set(b"b")
    empty = tmp_path / "a" / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match="no text file"):
        load_data(TrainingConfig(data=str(empty), seq_len=16))
