"""A recorded session, read back for analysis."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from forge_notebook.core.catalog import Catalog, store_path
from forge_notebook.core.follower import INTERNAL_EVENTS, Follower
from forge_notebook.core.runlog import EVENT, read_log
from forge_notebook.core.wire import Mark, SessionStatus, TrainingMetrics
from forge_notebook.integrations.compare import Comparison

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

HIDDEN = INTERNAL_EVENTS | {"command_ack"}


class Curve(NamedTuple):
    """One metric of one model; ``total`` points were recorded, as many as fit are here."""

    metric: str
    label: str
    step: list[int]
    values: list[float]
    total: int


class History:
    """One session as it stood when it was loaded; made by ``forge.load``."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "run.log"
        self._follower = Follower(folder, keep_rows=0)
        self._follower.load()

    @property
    def id(self) -> str:
        """The session's id."""
        return self._follower.state.id

    @property
    def name(self) -> str:
        """What viewers show."""
        return self._follower.state.name

    @property
    def status(self) -> SessionStatus:
        """Everything but the curve, as viewers get it; times in unix seconds.

        ``status["status"]`` is created, running, paused, completed, failed, stopped or interrupted.
        """
        return self._follower.status()

    @property
    def metrics(self) -> TrainingMetrics | None:
        """SPEC's 12 fields at the end: times in seconds, percentages 0 to 100, None: not known."""
        return self._follower.state.metrics()

    @property
    def events(self) -> list[Mark]:
        """Every event in order: ``{seq, time, step, model, event, data}``; time in unix seconds."""
        return [
            {
                "seq": record.seq,
                "time": round(record.data["time"] / 1e9, 3),
                "step": record.data.get("step"),
                "model": record.data.get("model"),
                "event": record.data["event"],
                "data": record.data.get("data", {}),
            }
            for record in read_log(self.log, grouped=True)
            if record.kind == EVENT
            and record.seq <= self._follower.state.seq
            and record.data["event"] not in HIDDEN
        ]

    def to_pandas(self) -> pd.DataFrame:
        """One row for each ``log`` call, in the order of the calls.

        Columns ``step``, ``time`` (unix seconds), ``model`` (0-based), then every metric; NaN
        where a call did not have it. Needs pandas.
        """
        import pandas as pd

        names = ["step", "time", "model", *self.metric_names]
        tables = self._follower.curves.tables()
        if not tables:
            return pd.DataFrame(columns=names)
        order = np.argsort(np.concatenate([table.seq for table in tables]), kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        model = np.concatenate([np.full(len(table.seq), table.model) for table in tables])
        columns = {
            "step": np.concatenate([table.step for table in tables])[order],
            "time": np.concatenate([table.time for table in tables])[order],
            "model": model[order],
        }
        for name in self.metric_names:  # one of the same name as these takes their place
            taken = columns.get(name)
            columns[name] = np.full(len(order), math.nan) if taken is None else taken.astype(float)
        begin = 0
        for table in tables:
            rows = place[begin : begin + len(table.seq)]
            for name, values in table.values.items():
                columns[name][rows] = values
            begin += len(rows)
        return pd.DataFrame(columns)[names]

    @property
    def metric_names(self) -> list[str]:
        """Every metric that was logged, in the order of first appearance."""
        return list(self._follower.state.metric_names)

    def drawn_metrics(self) -> list[str]:
        """What a picture shows unless told: the losses, or everything where there are none."""
        return [n for n in self.metric_names if n.endswith("loss")] or self.metric_names

    def curves(self, metrics: Collection[str], points: int) -> Iterator[Curve]:
        """Each metric of each model, min/max decimated to about ``points``; NaN stays NaN."""
        models = self._follower.state.models
        for block in self._follower.curves.overview(points, metrics=metrics):
            metric = block["columns"][0]
            values = np.array([math.nan if v is None else v for v in block["values"][0]])
            for _, row, what in block.get("nonFinite", []):
                values[row] = float(what)
            total = len(self._follower.curves.values(block["model"], metric))
            label = metric if len(models) == 1 else f"{models[block['model']].name} {metric}"
            yield Curve(metric, label, block["step"], values.tolist(), total)

    def last(self, metric: str, model: int = 0) -> float | None:
        """The newest value, also where it is not finite; None where there is none.

        ``model`` is its index from 0; raises IndexError for one that the session does not have.
        """
        return self._follower.state.models[model].last.get(metric)

    def best(
        self, metric: str, model: int = 0, *, highest: bool = False
    ) -> tuple[int, float] | None:
        """First step and value of the lowest (or highest) finite value; None without any.

        ``model`` is its index from 0.
        """
        sign = -1.0 if highest else 1.0
        # min/max decimation keeps the extremes of every bucket, so also of all
        for block in self._follower.curves.overview(1000, metrics=[metric]):
            if block["model"] == model:
                found = [
                    (sign * v, s)
                    for v, s in zip(block["values"][0], block["step"], strict=True)
                    if v is not None
                ]
                return (min(found)[1], sign * min(found)[0]) if found else None
        return None

    def figure(self, metrics: list[str] | None = None) -> go.Figure:
        """A Plotly figure of the given metrics over steps (default: the losses).

        Log y where every value is above 0. Raises ValueError for a metric that was never logged.
        """
        chosen = metrics or self.drawn_metrics()
        unknown = set(chosen) - set(self.metric_names)
        if unknown:
            raise ValueError(f"unknown metric {sorted(unknown)}; there are {self.metric_names}")
        return draw([(curve.label, curve) for curve in self.curves(chosen, 2000)], self.name)

    def compare(
        self, *others: History | str, metric: str | None = None, highest: bool = False
    ) -> Comparison:
        """This session beside others (histories or ids of the same store).

        ``metric`` is what they are measured by: default ``val_loss`` where it was logged, else
        ``loss``; ``highest=True`` for one where more is better. Shows as a table;
        ``.to_pandas()``, ``.figure()``. Raises ValueError for a metric that none of them has, and
        UnknownSession for an id that the store does not have.

        >>> import forge_notebook as forge
        >>> runs = []
        >>> for lr in (0.1, 0.2):
        ...     with forge.session(f"run {lr}", config={"lr": lr}) as session:
        ...         session.log(1, loss=lr)
        ...     runs.append(forge.load(session.id))
        >>> runs[0].compare(runs[1]).to_pandas()[["session", "best loss", "lr"]].values.tolist()
        [['run 0.1', 0.1, 0.1], ['run 0.2', 0.2, 0.2]]
        """
        store = self.log.parent.parent
        loaded = [load(h, store=store) if isinstance(h, str) else h for h in others]
        if metric is None:
            metric = "val_loss" if "val_loss" in self.metric_names else "loss"
        return Comparison([self, *loaded], metric, highest=highest)

    def export(self, path: str | Path, format: str | None = None) -> Path:
        """Write the session to ``path``; returns it.

        By the name's end: ``.csv`` (rows), ``.jsonl`` and ``.parquet`` (rows, events, config),
        ``.html`` (one interactive file), ``.png``, ``.svg``; a name without one is a folder of
        TensorBoard event files. ``format`` overrides the name. Rows, NaN and infinities come back
        unchanged through ``forge.import_runs``. Raises FormatError for an unknown format and
        MissingLibrary where Parquet (pyarrow), TensorBoard (tensorboard) or a picture
        (matplotlib) needs one that is not installed.
        """
        from forge_notebook.integrations.transfer import export

        return export(self, path, format)

    def __repr__(self) -> str:
        state = self._follower.state
        return f"History({state.name!r}, {state.status.value})"


def draw(curves: Iterable[tuple[str, Curve]], title: str) -> go.Figure:
    """Labelled curves over steps; log y where every value is above 0."""
    import plotly.graph_objects as go

    figure = go.Figure()
    positive = True
    for label, curve in curves:
        values = np.array(curve.values)
        values[~np.isfinite(values)] = math.nan
        positive = positive and not (values <= 0).any()
        # Plotly reads names and titles as HTML: ours are text
        figure.add_scatter(x=curve.step, y=values, mode="lines", name=plain(label))
    axis = "log" if positive else "linear"
    figure.update_layout(xaxis_title="step", yaxis_type=axis, title=plain(title))
    return figure


def plain(text: str) -> str:
    """Text that Plotly shows as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def load(session_id: str, *, store: str | Path | None = None) -> History:
    """A session read back, also while it runs: as it stands now.

    ``session_id`` is as ``forge.sessions()`` lists it; ``store`` is the folder of all sessions,
    default ``$FORGE_STORE`` or Jupyter's data folder. Raises UnknownSession where the store has
    none of that id, InvalidSessionId for what is no id.
    """
    return History(Catalog(Path(store) if store else store_path()).folder(session_id))
