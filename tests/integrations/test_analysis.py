"""load, compare, events, sessions: read back, filtered, shown as text."""

from __future__ import annotations

import math
import time

import pytest

import forge_notebook as forge
from forge_notebook.integrations.history import History
from forge_notebook.integrations.table import Table


def run(name: str, losses: list[float], **config: object) -> History:
    with forge.session(name, config=config, total_steps=len(losses)) as session:
        for step, loss in enumerate(losses, 1):
            session.log(step, loss=loss)
    return forge.load(session.id)


def test_compare_shows_what_differs_and_the_lowest_finite_value() -> None:
    one = run("one", [3.0, 1.0, 2.0], lr=0.1, seed=1)
    two = run("two", [3.0, math.nan, math.inf], lr=0.2, seed=1, extra=None)
    comparison = one.compare(two.id)
    assert comparison.differing == ["lr", "extra"]
    first, second = comparison.rows()
    assert (first["best loss"], first["best step"], first["last loss"]) == (1.0, 2, 2.0)
    assert (second["best loss"], second["last loss"]) == (3.0, math.inf)
    assert len(comparison.figure().data) == 2
    assert one.compare(two, highest=True).rows()[0]["best loss"] == 3.0
    with pytest.raises(ValueError, match="unknown metric 'acc'"):
        one.compare(two, metric="acc")


def test_a_comparison_of_runs_that_never_were_finite_has_a_dash() -> None:
    (row,) = run("nan", [math.nan]).compare().rows()
    assert row["best loss"] is None
    assert Table([row]).cells[0][5] == "-"


def test_events_are_all_there_and_none_of_the_internal_ones() -> None:
    session = forge.session("many")
    for step in range(700):
        session.event("alert", step=step, kind="x", message=str(step))
    assert session.should_stop is False
    session.finish()
    events = forge.load(session.id).events
    assert len(events) == 701
    assert events[0]["data"] == {"kind": "x", "message": "0"}
    assert events[-1]["event"] == "training_completed"


def test_a_table_has_the_rows_in_the_order_of_the_calls() -> None:
    session = forge.session("turns", models=2)
    for step in range(6):
        session.log(step, model=step % 2, loss=float(step))
        session.log(step, model=1 - step % 2, val_loss=10.0 + step, time=float(step))
    session.finish()
    frame = forge.load(session.id).to_pandas()
    assert list(frame.columns) == ["step", "time", "model", "loss", "val_loss", "time"]
    assert frame.step.tolist() == [step for step in range(6) for _ in range(2)]
    assert frame.model.tolist() == [0, 1, 1, 0] * 3
    assert frame.loss.tolist()[::2] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert frame.loss[1::2].isna().all()
    assert frame.val_loss.tolist()[1::2] == [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]
    times = frame["time"].iloc[:, 0]
    assert times.tolist()[1::2] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]  # a metric of that name
    assert (times[::2] > 1e9).all()


def test_sessions_are_filtered_newest_first() -> None:
    run("Alpha one", [1.0])
    start = time.time()
    time.sleep(0.01)
    run("beta", [1.0])
    time.sleep(0.01)  # starts are told in milliseconds
    forge.session("alpha two").finish("failed", "broken")
    names = [s["name"] for s in forge.sessions(name="ALPHA")]
    assert names == ["alpha two", "Alpha one"]
    assert [s["name"] for s in forge.sessions(status="failed")] == ["alpha two"]
    assert len(forge.sessions(status=("failed", "completed"))) == 3
    assert len(forge.sessions(since=start)) == 2
    assert [s["name"] for s in forge.sessions(limit=1)] == ["alpha two"]


def test_tables_and_figures_take_hostile_text_as_text() -> None:
    history = run("<b onclick=x>&", [1.0], **{"<i>": "<script>"})
    for html in (forge.sessions()._repr_html_(), history.compare()._repr_html_()):
        assert "<b" not in html
        assert "&lt;b onclick=x&gt;&amp;" in html
    assert "<b" not in str(history.figure().layout.title.text)
    assert "<b onclick=x>&" in str(forge.sessions())


def test_a_figure_is_logarithmic_only_where_it_can_be() -> None:
    assert run("up", [1.0, 2.0]).figure().layout.yaxis.type == "log"
    assert run("down", [1.0, -2.0]).figure().layout.yaxis.type == "linear"
