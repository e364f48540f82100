"""The soak, shortened, and its own accounts: they must be able to fail."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from forge_notebook.bench import soak
from forge_notebook.bench.soak_parts import Viewer, rows_of, verdict
from forge_notebook.cli._jupyter import Endpoint
from forge_notebook.core.follower import Follower
from forge_notebook.recording import Session

ROWS = 100


@pytest.fixture
def messages(tmp_path: Path) -> list[tuple[str, dict[str, Any]]]:
    """All that a viewer of a short session is told, a tenth at a time."""
    session = Session("s", store=tmp_path, session_id="s")
    follower = Follower(session.folder)
    told: list[tuple[str, dict[str, Any]]] = []
    for step in range(1, ROWS + 1):
        session.log(step, loss=1 + math.sin(step) ** 2)
        if step % 10 == 0:
            follower.read()
            told += follower.messages()
    session.finish()
    follower.read()
    return told + list(follower.messages())


def viewer_of(messages: list[tuple[str, dict[str, Any]]]) -> Viewer:
    viewer = Viewer(Endpoint("http://nowhere/", ""), "s", random.Random(0))
    for event, data in messages:
        viewer.take(event, data)
    return viewer


def blocks(messages: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [block for _, data in messages for block in data.get("series", [])]


def test_a_viewer_that_was_told_everything_passes(
    tmp_path: Path, messages: list[tuple[str, dict[str, Any]]]
) -> None:
    log = rows_of(tmp_path / "s" / "run.log")
    viewer = viewer_of([message for message in messages for _ in range(2)])  # told twice each
    assert viewer.done
    assert viewer.rows == len(log.seqs) == ROWS
    assert not verdict(viewer, log)


def test_a_lost_a_doubled_and_a_changed_point_are_found(
    tmp_path: Path, messages: list[tuple[str, dict[str, Any]]]
) -> None:
    log = rows_of(tmp_path / "s" / "run.log")
    block = blocks(messages)[3]
    columns = [block["seq"], block["step"], *block["values"]]
    whole = [list(column) for column in columns]
    for change in (lambda c: c.pop(2), lambda c: c.insert(2, c[2])):
        for column, was in zip(columns, whole, strict=True):
            column[:] = was
            change(column)
        assert verdict(viewer_of(messages), log)
    for column, was in zip(columns, whole, strict=True):
        column[:] = was
    assert not verdict(viewer_of(messages), log)
    block["values"][block["columns"].index("loss")][0] += 1e-9
    assert verdict(viewer_of(messages), log)


def test_a_message_before_which_records_are_missing_is_refused(
    messages: list[tuple[str, dict[str, Any]]],
) -> None:
    viewer = viewer_of(messages[:2])
    assert not viewer.take(*messages[3])


@pytest.mark.timeout(240)
def test_a_short_soak_loses_and_doubles_nothing() -> None:
    rows = soak.measure(quick=False, peers=[], minutes=0.3, viewers=30)
    # A server that started six seconds ago is still warming up: memory is for longer runs.
    counts = [row for row in rows if row.unit != "MB"]
    missed = [f"{row.name}: {row.value} {row.note}" for row in counts if row.ok is False]
    assert missed == []
