"""Windows and decimation: no spike and no NaN may get lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge_notebook.core.columns import Column
from forge_notebook.core.history import MAX_RAW_ROWS, Curves, decimate
from forge_notebook.core.runlog import Point


def curves(values: list[float], name: str = "loss") -> Curves:
    made = Curves()
    for step, value in enumerate(values):
        made.add(step + 1, Point(step * 10**9, step, 0, (name,), (value,)))
    return made


def test_every_one_step_spike_survives() -> None:
    values = np.ones(100_000)
    spikes = np.arange(50, 100_000, 1000)
    values[spikes] = 9.0
    kept = set(decimate(values, 1000).tolist())
    assert set(spikes.tolist()) <= kept
    assert len(kept) <= 1100


@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan), st.just(math.inf)), max_size=100),
    st.integers(2, 6),
)
def test_decimation_keeps_extremes_ends_and_odd_values(values: list[float], points: int) -> None:
    array = np.array(values)
    kept = decimate(array, points)
    assert sorted(set(kept.tolist())) == kept.tolist()
    if not values:
        return
    assert {0, len(values) - 1} <= set(kept.tolist())
    finite = array[np.isfinite(array)]
    if finite.size:
        shown = array[kept][np.isfinite(array[kept])]
        assert (shown.max(), shown.min()) == (finite.max(), finite.min())
    if not np.isfinite(array).all():
        assert not np.isfinite(array[kept]).all()


def test_between_returns_every_row_of_the_range_once() -> None:
    made = curves([float(i) for i in range(50)])
    made.add(51, Point(0, 50, 1, ("loss", "lr"), (1.0, 2.0)))
    blocks = made.between(10, 51)
    assert [b["seq"] for b in blocks] == [list(range(11, 51)), [51]]
    assert blocks[1]["columns"] == ["loss", "lr"]
    assert made.between(51, 60) == []


def test_too_much_to_send_is_decimated_and_says_so() -> None:
    made = curves([1.0] * (MAX_RAW_ROWS + 5))
    (block,) = made.between(0, 1 << 40)
    assert block["decimated"] is True
    assert len(block["seq"]) < 2000


@pytest.mark.parametrize("x", ["step", "time"])
def test_a_window_holds_its_own_detail(x: str) -> None:
    made = curves([math.sin(i) for i in range(10_000)])
    (block,) = made.overview(1000, x=x, low=100, high=149)
    assert block["step"] == list(range(100, 150))
    assert "decimated" not in block
    (whole,) = made.overview(100, x=x)
    assert whole["decimated"] is True
    assert whole["step"][0] == 0
    assert whole["step"][-1] == 9999


def test_odd_values_are_null_with_a_mark() -> None:
    (block,) = curves([1.0, math.nan, -math.inf, 2.0]).between(0, 10)
    assert block["values"] == [[1.0, None, None, 2.0]]
    assert block["nonFinite"] == [(0, 1, "NaN"), (0, 2, "-Infinity")]


def extremes(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return float(finite.min()), float(finite.max())


@pytest.mark.parametrize("odd", [False, True])
def test_an_overview_from_summaries_has_the_extremes_of_every_window(odd: bool) -> None:
    random = np.random.default_rng(7)
    made = Curves()
    values = random.normal(size=40_000)
    if odd:
        lonely = np.arange(300, 40_000, 1_111)
        values[lonely] = math.nan
        values[20_000:20_500] = math.inf
    for step, value in enumerate(values.tolist()):
        made.add(step + 1, Point(step * 10**9, step, 0, ("loss",), (value,)))
        if step == 30_000:
            made.overview(20)  # summaries grow with the rows
    for low, high in [(0, 39_999), (1, 39_998), (5_000, 20_499), (127, 30_001), (19_900, 39_000)]:
        (block,) = made.overview(20, low=low, high=high)
        shown = np.array([math.nan if v is None else v for v in block["values"][0]])
        window = values[low : high + 1]
        assert extremes(shown) == extremes(window)
        assert (block["step"][0], block["step"][-1]) == (low, high)
        assert block["decimated"] is True
        if odd:
            marked = {block["step"][row] for _, row, _ in block["nonFinite"]}
            assert {
                s for s in lonely.tolist() if low <= s <= high and values[s] != math.inf
            } <= marked


def test_a_restart_from_a_checkpoint_is_a_branch_of_its_own() -> None:
    made = Curves()
    for seq, step in enumerate([*range(6_000), *range(3_000, 9_000)]):
        made.add(seq + 1, Point(seq * 10**9, step, 0, ("loss",), (float(seq),)))
    (block,) = made.overview(10_000, low=4_000, high=4_001)
    assert (block["seq"], block["step"]) == ([4001, 4002, 7001, 7002], [4000, 4001, 4000, 4001])
    (whole,) = made.overview(20)
    assert (whole["seq"][0], whole["seq"][-1]) == (1, 12_000)


def test_the_axis_may_be_the_epoch() -> None:
    made = Curves()
    for step in range(100):
        made.add(step + 1, Point(0, step, 0, ("loss", "epoch"), (float(step), step / 10)))
    made.add(101, Point(0, 100, 0, ("loss",), (5.0,)))  # a row that says no epoch
    (block,) = made.overview(1000, metrics=["loss"], x="epoch", low=2.0, high=3.0)
    assert block["step"] == list(range(20, 31))


def test_what_was_read_stays_as_it_was_while_more_comes() -> None:
    column = Column("d")
    for value in range(10_000):
        column.append(float(value))
    seen = column.all()
    for _ in range(10_000):
        column.append(-1.0)
    assert seen.tolist() == [float(value) for value in range(10_000)]
    assert len(column.all()) == len(column) == 20_000
