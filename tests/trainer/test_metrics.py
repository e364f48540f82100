import math

import torch

from forge_notebook.trainer.metrics import fourier_concentration, measure, rank_progress


def test_rank_progress_is_one_when_the_answer_is_first_and_below_zero_when_last() -> None:
    y = torch.arange(7)
    assert rank_progress(torch.eye(7), y) == 1
    assert rank_progress(-torch.eye(7), y) < 0


def test_rank_progress_of_constant_logits_is_no_success() -> None:
    assert -0.2 < rank_progress(torch.zeros(59, 59), torch.arange(59)) <= 0


def test_rank_progress_of_random_logits_is_chance() -> None:
    logits = torch.randn(20_000, 59, generator=torch.Generator().manual_seed(0))
    assert abs(rank_progress(logits, torch.zeros(20_000, dtype=torch.long))) < 0.02


def test_rank_progress_ignores_the_scale_of_the_logits() -> None:
    logits = torch.randn(100, 59, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(100, dtype=torch.long)
    assert rank_progress(logits, y) == rank_progress(1000 * logits, y)


def test_logits_that_are_not_numbers_measure_as_not_a_number() -> None:
    found = measure(torch.full((2, 1, 59), math.nan), torch.zeros(2, 1, dtype=torch.long))
    assert math.isnan(found.rank)
    assert math.isnan(found.accuracy)
    assert math.isnan(found.loss)


def test_fourier_concentration_is_the_share_of_the_strongest_frequencies() -> None:
    turns = 2 * torch.pi * torch.arange(59)[:, None] * torch.tensor([3, 7, 11]) / 59
    three = torch.cat([turns.cos(), 2 * turns.sin() + 5], dim=1)  # a mean that does not count
    assert fourier_concentration(three) > 0.999
    assert abs(fourier_concentration(three, top=1) - 1 / 3) < 1e-3
    generator = torch.Generator().manual_seed(0)
    noise = fourier_concentration(torch.randn(59, 10_000, generator=generator))
    assert abs(noise - 5 / 29) < 0.01
