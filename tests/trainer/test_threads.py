"""The number of threads is chosen again when the machine has become another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from forge_notebook.trainer import threads
from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.data import load_data
from forge_notebook.trainer.presets import build_model
from forge_notebook.trainer.threads import WINDOW, Threads


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def made(monkeypatch: pytest.MonkeyPatch, *fastest: int, **config: Any) -> Threads:
    chosen = iter(fastest)
    monkeypatch.setattr(threads, "_fastest", lambda *_: next(chosen))
    config_ = TrainingConfig.demo("grok", **config)
    data = load_data(config_)
    return Threads(build_model(config_, data, 0), data, config_)


def watched(found: Threads, *times_ms: float) -> list[str | None]:
    return [found.watch(ms / 1e3) for ms in times_ms for _ in range(WINDOW)]


def test_steps_of_twice_the_time_have_the_threads_counted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = made(monkeypatch, 2, 1)
    assert (found.count, torch.get_num_threads()) == (2, 2)
    said = [text for text in watched(found, 10.0, 12.0, 19.0, 30.0) if text is not None]
    assert said == ["a step takes 30 ms instead of 10; threads: 2 before, 1 now"]
    assert (found.count, torch.get_num_threads()) == (1, 1)
    assert not any(watched(found, 30.0, 40.0)), "what is usual is measured anew"


def test_one_slow_step_and_a_count_that_stays_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = made(monkeypatch, 2, 2)
    assert not any(watched(found, 10.0))
    assert found.watch(5.0) is None
    assert not any(found.watch(0.01) for _ in range(WINDOW - 1))
    assert not any(watched(found, 30.0))
    assert found.count == 2


def test_a_count_of_the_users_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    found = made(monkeypatch, threads=1)
    assert not any(watched(found, 10.0, 50.0))
    assert found.count == 1
