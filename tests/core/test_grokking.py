import math

import pytest

from forge_notebook.core.grokking import GrokTracker


def feed(tracker: GrokTracker, values: list[tuple[float, float]], every: int = 10) -> list[object]:
    return [tracker.update(at * every, train, val) for at, (train, val) in enumerate(values)]


def test_phases_follow_each_other() -> None:
    series = [(0.5, 0.0), (0.99, 0.1), (1, 0.3), (1, 0.4), (1, 0.5), (1, 0.9), (1, 0.99)]
    assert feed(GrokTracker(), series) == [
        "memorizing",
        "plateau",
        "plateau",
        "plateau",
        "grokking",
        "grokking",
        "grokked",
    ]


def test_onset_is_the_first_of_three_evaluations_in_a_row() -> None:
    tracker = GrokTracker()
    feed(tracker, [(1, 0.3), (1, 0.3), (1, 0.1), (1, 0.25)])
    assert tracker.onset_step is None
    assert tracker.update(40, 1, 0.3) == "plateau"
    assert tracker.update(50, 1, 0.3) == "grokking"
    assert tracker.onset_step == 30


def test_text_that_tops_out_at_its_entropy_never_groks() -> None:
    tracker = GrokTracker()
    assert set(feed(tracker, [(0.88, 0.87)] * 50)) == {"memorizing"}


def test_without_training_measure_there_is_no_phase() -> None:
    tracker = GrokTracker()
    assert tracker.update(0, None, 0.9) is None
    assert tracker.update(1, math.nan, 0.9) is None


def test_generalizing_while_memorizing_is_no_grokking() -> None:
    tracker = GrokTracker()
    rising = [(0.4, 0.3), (0.8, 0.7), (0.99, 0.9)]
    assert feed(tracker, [*rising, *[(1, 0.99)] * 9])[-1] is None
    assert tracker.normal
    assert tracker.onset_step is None


def test_value_that_is_no_number_changes_nothing() -> None:
    tracker = GrokTracker()
    feed(tracker, [(1, 0.3), (1, math.nan), (1, 0.3), (1, 0.3)])
    assert tracker.phase == "grokking"


def test_phase_never_goes_back() -> None:
    tracker = GrokTracker()
    feed(tracker, [(1, 0.1)] + [(1, 0.99)] * 3 + [(0.1, 0.0)] * 5)
    assert tracker.phase == "grokked"


def test_eta_of_a_logistic_rise_is_exact_and_absent_outside_it() -> None:
    tracker = GrokTracker()
    tracker.update(0, 1, 0.0)
    assert tracker.eta_steps() is None
    for step in range(100, 610, 10):
        tracker.update(step, 1, 1 / (1 + math.exp(-(step - 500) / 80)))
    reaches = 500 + 80 * math.log(0.98 / 0.02)
    assert tracker.phase == "grokking"
    assert tracker.eta_steps() == pytest.approx(reaches - 600, abs=2)
    tracker.update(900, 1, 0.99)
    assert tracker.eta_steps() is None


def test_falling_measure_has_no_eta() -> None:
    tracker = GrokTracker()
    feed(tracker, [(1.0, 0.1)] + [(1, 0.9 - 0.02 * at) for at in range(20)])
    assert tracker.phase == "grokking"
    assert tracker.eta_steps() is None


def test_rollback_drops_the_points_of_the_abandoned_branch() -> None:
    tracker = GrokTracker()
    feed(tracker, [(1, 0.1), (1, 0.3), (1, 0.3)])
    tracker.update(10, 1, 0.1)
    tracker.update(20, 1, 0.3)
    assert tracker.phase == "plateau"
