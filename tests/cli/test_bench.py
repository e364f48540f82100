"""The benchmarks run and say what they mean; what they measure is for a machine at rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forge_notebook.bench import latency, steps
from forge_notebook.bench.peers import loggers
from forge_notebook.cli import main


def test_rows_are_written_with_ratio_and_verdict(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    status = main(["bench", "control", "--quick", "--json", str(file)])
    rows = json.loads(file.read_text())["rows"]
    assert [row["goal"] for row in rows] == [200, 200]
    assert all(0 < row["value"] < 10_000 and row["ok"] == (row["value"] <= 200) for row in rows)
    assert status == (0 if all(row["ok"] for row in rows) else 1)


def test_added_time_is_found_under_a_drift_and_nothing_is_within_the_noise() -> None:
    drift = [[1.0 + turn / 10] * 5 for turn in range(40)]
    more = [[step * 1.02 for step in block] for block in drift]
    assert steps._added(more, drift) == pytest.approx((2.0, 0.0), abs=1e-6)
    wild = [[1.0 + (-1) ** turn / 10] * 5 for turn in range(40)]
    added, noise = steps._added(wild, [[1.0] * 5] * 40)
    assert abs(added) < noise


def test_the_delay_of_a_step_ends_with_the_first_curve_that_holds_it() -> None:
    seen = [(1, 1050.0), (3, 1260.0), (3, 1300.0)]
    assert latency._delays({1: 1000.0, 2: 1100.0, 3: 1200.0}, seen) == [50.0, 160.0, 60.0]
    with pytest.raises(RuntimeError, match="step 4 of 1 was never drawn"):
        latency._delays({4: 1300.0}, seen)


def test_a_peer_that_is_not_known_is_no_silent_gap(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="unknown peer 'nobody'"):
        next(loggers(["nobody"], tmp_path))
