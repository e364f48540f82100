"""The sessions of a store, filtered, as a table."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from forge_notebook.core.catalog import Catalog, store_path
from forge_notebook.integrations.table import Table


class SessionList(list[dict[str, Any]]):
    """The sessions of a store, a table in a notebook."""

    def _table(self) -> Table:
        rows = []
        for session in self:
            metrics = session["metrics"] or {}
            rows.append(
                {
                    "session": session["sessionId"],
                    "name": session["name"],
                    "status": session["status"],
                    "progress %": metrics.get("overallProgress"),
                    "step": metrics.get("currentStep"),
                    "loss": metrics.get("loss"),
                }
            )
        return Table(rows)

    def _repr_html_(self) -> str:
        return self._table().html()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def __str__(self) -> str:
        return self._table().text()


def sessions(
    *,
    status: str | Collection[str] | None = None,
    name: str | None = None,
    since: float | None = None,
    limit: int | None = None,
    store: str | Path | None = None,
) -> SessionList:
    """Sessions of the store, newest first: ``{sessionId, name, status, metrics}``.

    ``status``: one or several of created, running, paused, completed, failed, stopped,
    interrupted; ``name``: a part of the name, any case; ``since``: unix seconds of the start;
    ``limit``: at most so many. In a notebook the list shows as a table.

    >>> import forge_notebook as forge
    >>> forge.sessions(name="no such run")
    []
    """
    wanted = {status} if isinstance(status, str) else status
    listed = [
        {k: s.get(k) for k in ("sessionId", "name", "status", "metrics")}
        for s in Catalog(Path(store) if store else store_path()).sessions()
        if (wanted is None or s["status"] in wanted)
        and (name is None or name.lower() in s["name"].lower())
        and (since is None or s["startTime"] >= since)
    ]
    return SessionList(listed[:limit])
