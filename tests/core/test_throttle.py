"""At most so many a second, the first at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge_notebook.core.throttle import Throttle


def test_a_lone_update_passes_at_once_and_a_flood_at_the_rate() -> None:
    throttle = Throttle(10)
    passed = [now for now in range(1000) if throttle.ready(now / 100)]  # 10 s at 100 Hz
    assert passed[0] == 0
    assert 98 <= len(passed) <= 102
    assert throttle.ready(1000.0)


@given(st.lists(st.floats(0.001, 0.5), max_size=200))
def test_never_more_than_the_rate_and_the_burst(gaps: list[float]) -> None:
    throttle, now, passed = Throttle(10), 0.0, []
    for gap in gaps:
        now += gap
        if throttle.ready(now):
            passed.append(now)
    for first in range(len(passed)):
        inside = [t for t in passed[first:] if t <= passed[first] + 1]
        assert len(inside) <= 10 + 2 + 1


def test_an_impossible_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="rate=0"):
        Throttle(0)
