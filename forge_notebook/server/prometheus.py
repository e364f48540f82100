"""Counters on Jupyter's ``/metrics``. Defined once: the registry is the process's."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

MESSAGES = Counter("forge_notebook_messages", "Messages sent to viewers")
VIEWERS = Gauge("forge_notebook_viewers", "Connected sockets and waiting polls")
LIVE = Gauge("forge_notebook_live_sessions", "Sessions that a process writes now")
DELETED = Counter("forge_notebook_sessions_retired", "Sessions deleted because of their age")
