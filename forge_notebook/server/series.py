"""Windows of the curve, for zooming."""

from __future__ import annotations

import math

from jupyter_server.auth.decorator import authorized
from tornado import web

from forge_notebook.core.errors import UnknownMetric
from forge_notebook.core.history import MAX_POINTS
from forge_notebook.server.base import ForgeHandler


class SeriesHandler(ForgeHandler):
    """``GET series/<id>?metrics=&from=&to=&points=&x=``."""

    @web.authenticated
    @authorized
    async def get(self, session_id: str) -> None:
        points = self.integer("points", 1000, 2, MAX_POINTS)
        low, high = self.number("from", -math.inf), self.number("to", math.inf)
        x = self.get_query_argument("x", "step")
        if x not in ("step", "time", "epoch"):
            raise web.HTTPError(400, "x=%r: give 'step', 'time' or 'epoch'", x)
        names = self.get_query_argument("metrics", None)
        follower = (await self.hub.feed(session_id)).follower
        metrics = None if names is None else names.split(",")
        unknown = set(metrics or ()) - follower.state.metric_names.keys()
        if unknown:
            known = ", ".join(follower.state.metric_names) or "none yet"
            raise UnknownMetric(
                f"unknown metric {', '.join(sorted(unknown))}; this session has {known}"
            )

        series = follower.curves.overview(points, metrics=metrics, x=x, low=low, high=high)
        self.answer({"sessionId": session_id, "seq": follower.state.seq, "series": series})
