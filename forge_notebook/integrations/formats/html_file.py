"""One HTML file with a session's curves: interactive, self-contained, opens without a network."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forge_notebook.core.wire import dumps, jsonable, non_finite_name
from forge_notebook.integrations.formats.run import FormatError

if TYPE_CHECKING:
    from forge_notebook.integrations.history import Curve, History

POINTS = 24_000  # of all curves together: about 600 kB beside Plotly's 1.2 MB
EVENTS = 500


def write(history: History, path: Path) -> None:
    """Every metric, decimated by min/max of buckets where there are more points than fit.

    Says in the page how many of how many points are drawn; NaN and infinities are marks on the
    axis. Names and texts are shown as text, never as HTML.
    """
    names = history.metric_names
    count = max(1, sum(1 for _ in history.curves(names, 2)))
    curves = [_curve(curve) for curve in history.curves(names, max(50, POINTS // count))]
    status = history.status
    data = {
        "name": status["name"],
        "session": status["sessionId"],
        "status": status["status"],
        "config": status["config"],
        "curves": curves,
        "events": history.events[-EVENTS:],
        "shown": history.drawn_metrics(),
        "lost": status["lost"],
    }
    text = dumps(jsonable(data)).replace("<", "\\u003c")
    page = (files(__package__) / "page.html").read_text(encoding="utf-8")
    page = page.replace("/*PLOTLY*/", _plotly()).replace('"DATA"', text)
    path.write_text(page, encoding="utf-8")


def _plotly() -> str:
    source = files("forge_notebook") / "static" / "plotly.mjs"
    if not source.is_file():
        raise FormatError("the front end is not built: static/plotly.mjs is missing")
    text = source.read_text(encoding="utf-8")
    body, _, exported = text.rstrip().rstrip(";").rpartition("export{")
    name = exported.partition(" as default")[0]
    if not body or not name.isidentifier() or "</script" in text:
        raise FormatError("static/plotly.mjs is not the module that this version was built with")
    return f"{body}\nconst Plotly = {name};"


def _curve(curve: Curve) -> dict[str, Any]:
    finite = [v if abs(v) != float("inf") and v == v else None for v in curve.values]
    odd = [
        [step, non_finite_name(value)]
        for step, value, known in zip(curve.step, curve.values, finite, strict=True)
        if known is None
    ]
    return {
        "metric": curve.metric,
        "label": curve.label,
        "x": curve.step,
        "y": [None if v is None else float(f"{v:.6g}") for v in finite],
        "odd": odd,
        "total": curve.total,
    }
