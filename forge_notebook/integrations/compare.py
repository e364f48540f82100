"""Sessions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from forge_notebook.integrations.table import Table

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from forge_notebook.integrations.history import History

ABSENT = object()


class Comparison:
    """What differs between sessions, and how far each came; a table in a notebook."""

    def __init__(self, histories: Sequence[History], metric: str, *, highest: bool = False) -> None:
        self.histories = list(histories)
        self.highest = highest
        self.metric = metric
        known = {name for history in histories for name in history.metric_names}
        if metric not in known:
            raise ValueError(f"unknown metric {metric!r}; there are {sorted(known)}")

    @property
    def differing(self) -> list[str]:
        """The config entries that are not the same in all sessions."""
        configs = [history.status["config"] for history in self.histories]
        names = dict.fromkeys(name for config in configs for name in config)
        return [
            name
            for name in names
            if any(config.get(name, ABSENT) != configs[0].get(name, ABSENT) for config in configs)
        ]

    def rows(self) -> list[dict[str, Any]]:
        """One for each model of each session: best and last value, steps, seconds, config.

        ``best`` is the lowest finite value, or the highest where that was asked for; a value that
        does not exist is ``None``.
        """
        rows = []
        for history in self.histories:
            status = history.status
            config = {name: status["config"].get(name) for name in self.differing}
            seconds = status["metrics"]["trainingTime"] if status["metrics"] else None
            for model in status["models"]:
                best = history.best(self.metric, model["index"], highest=self.highest)
                last = history.last(self.metric, model["index"])
                rows.append(
                    {
                        "session": status["name"], "model": model["name"],
                        "status": status["status"], "step": model["step"],
                        f"last {self.metric}": last,
                        f"best {self.metric}": best[1] if best else None,
                        "best step": best[0] if best else None,
                        "seconds": seconds, **config,
                    }
                )  # fmt: skip
        return rows

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a frame. Needs pandas."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def figure(self) -> go.Figure:
        """The metric of all sessions over steps, as a Plotly figure."""
        from forge_notebook.integrations.history import draw

        curves = [
            (f"{history.name} {curve.label}", curve)
            for history in self.histories
            for curve in history.curves([self.metric], 2000)
        ]
        return draw(curves, self.metric)

    def _table(self) -> Table:
        return Table(self.rows())

    def _repr_html_(self) -> str:
        return self._table().html()

    def __repr__(self) -> str:
        return self._table().text()
