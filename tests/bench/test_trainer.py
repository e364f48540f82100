"""What the bench of the trainer claims about its own comparison."""

import threading

import pytest
import torch

from forge_notebook.bench.plain_gpt import PlainLoop, Took, Turns
from forge_notebook.bench.trainer import BASE, by_turns
from forge_notebook.bench.trainer_runs import Trained, train
from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.data import load_data
from forge_notebook.trainer.presets import parameter_count


def test_plain_loop_takes_turns_with_a_trainer_of_the_same_size() -> None:
    threads = torch.get_num_threads()
    beside = threading.Event()
    try:
        turns, size = by_turns(load_data(BASE), 1, beside)
    finally:
        torch.set_num_threads(threads)
    assert size == parameter_count(turns.plain.model)
    assert len(turns.ours) == len(turns.ratios()) == 1
    assert len(turns.theirs) == 2
    assert turns.plain.step == 30  # ours took 20, of which the first ten do not count
    assert not beside.is_set()


def test_ratio_is_to_the_plain_blocks_on_both_sides() -> None:
    turns = Turns(PlainLoop(load_data(BASE), 1), 10, 2, None)
    turns.theirs = [Took(1.0, 1.0), Took(3.0, 1.0), Took(1.0, 3.0)]
    turns.ours = [Took(4.0, 2.0), Took(1.0, 2.0)]
    assert turns.ratios() == [(2.0, 2.0), (0.5, 1.0)]


def test_training_is_read_back_with_its_times_and_its_share_of_the_machine() -> None:
    config = TrainingConfig.demo("grok", epochs=30, threads=1)
    run = train(config)
    at, last = list(run.points())[-1]
    assert 0 < at <= run.event("training_completed") - run.event("training_started")
    assert last["accuracy"] >= 0
    assert run.cores > 0
    assert Trained([], 0.89).quiet is False
    assert Trained([], 0.91).quiet is True
    with pytest.raises(StopIteration):
        run.event("training_failed")
