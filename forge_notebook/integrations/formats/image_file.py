"""PNG and SVG of a session's curves, drawn by matplotlib without a display."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from forge_notebook.integrations.formats.run import library

if TYPE_CHECKING:
    from forge_notebook.integrations.history import History

POINTS = 2000  # of each curve: twice the picture's width


def write(history: History, path: Path) -> None:
    """The losses over steps (every metric where there is no loss); log y where all are above 0."""
    figure = library("matplotlib.figure").Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    positive = True
    for curve in history.curves(history.drawn_metrics(), POINTS):
        style = "--" if curve.metric.startswith(("val_", "eval_")) else "-"
        axes.plot(curve.step, curve.values, style, linewidth=1.2, label=curve.label)
        positive = positive and all(v > 0 for v in curve.values if math.isfinite(v))
    if positive and axes.lines:
        axes.set_yscale("log")
    axes.set_title(history.name.replace("$", r"\$"))  # a name is text, not a formula
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(loc="best", fontsize="small")
    figure.savefig(path, dpi=144)
