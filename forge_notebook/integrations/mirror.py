"""A session copied live to another tool, in the background.

A mirror is one more reader of the run log, on a thread of its own: it cannot slow ``log`` down,
and what it has not sent yet is in the log. A sink that fails is told to the viewers as an alert;
the recording goes on.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from typing import Any, Protocol

from forge_notebook.core.errors import ForgeError
from forge_notebook.core.runlog import EVENT, POINTS, SESSION, Reader, Record
from forge_notebook.core.status import ENDED, Status
from forge_notebook.integrations.formats.run import ENDS, Row
from forge_notebook.recording import Session

log = logging.getLogger(__name__)

INTERVAL_S = 1.0  # one stat a second: the copy may be late, the training may not
AT_EXIT_S = 10.0


class Sink(Protocol):
    """Another tool."""

    def open(self, session: dict[str, Any]) -> None:
        """Start a run there."""

    def rows(self, rows: list[Row]) -> None:
        """Send rows, in order."""

    def close(self, status: str) -> None:
        """End the run there: ``completed``, ``failed`` or ``stopped``."""


class Mirror:
    """A running copy; made by ``mirror``."""

    def __init__(self, session: Session, sink: Sink) -> None:
        self.sent = 0
        self.error: Exception | None = None
        self._session = session
        self._sink = sink
        self._reader = Reader(session.folder / "run.log")
        self._ended = ""
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forge-mirror", daemon=True)
        self._thread.start()
        _mirrors.add(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the session has ended and all of it was sent; False after ``timeout`` s."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Send what is there now and end the copy."""
        self._hurry.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._ended:
                last = self._hurry.wait(INTERVAL_S)
                while records := self._reader.read(5000):
                    self._send(records)
                if last:
                    break
            self._sink.close(self._ended or "stopped")
        except Exception as error:
            self.error = error
            log.exception("the mirror of %s stopped; the recording goes on", self._session.id)
            if Status(self._session.status) not in ENDED:
                message = f"{type(error).__name__}: {error}"
                self._session.event("alert", kind="mirror_failed", message=message)

    def _send(self, records: list[Record]) -> None:
        rows = []
        for record in records:
            data = record.data
            if record.kind == POINTS:
                metrics = dict(zip(data.names, data.values, strict=True))
                rows.append(Row(data.time_ns, data.step, data.model, metrics))
            elif record.kind == SESSION and not data.get("again"):
                self._sink.open(data)
            elif record.kind == EVENT and data["event"] in ENDS:
                self._ended = data["event"].removeprefix("training_")
        if rows:
            self._sink.rows(rows)
            self.sent += len(rows)


def mirror(session: Session, to: str | Sink, path: str = "", **options: Any) -> Mirror:
    """Copy a session live to ``tensorboard`` (``path``: log folder), ``wandb`` or ``mlflow``.

    ``wandb`` writes offline runs under ``path`` unless ``mode=`` says otherwise; its other options
    go to ``wandb.init``. ``mlflow`` takes ``path`` as the tracking URI. Any object with ``open``,
    ``rows`` and ``close`` is taken as well. Returns at once; the copy ends with the session, and
    the process waits at its end at most 10 s for it. Raises ForgeError for an unknown name and
    MissingLibrary where the tool is not installed.
    """
    from forge_notebook.integrations import sinks

    if not isinstance(to, str):
        return Mirror(session, to)
    known = {
        "tensorboard": sinks.TensorBoard,
        "wandb": sinks.Wandb,
        "mlflow": sinks.MLflow,
    }
    if to not in known:
        raise ForgeError(f"no mirror {to!r}; there are {', '.join(known)}")
    return Mirror(session, known[to](path, **options))


_mirrors: weakref.WeakSet[Mirror] = weakref.WeakSet()


@atexit.register
def _finish() -> None:
    for running in list(_mirrors):
        running._hurry.set()
    for running in list(_mirrors):
        if not running.wait(AT_EXIT_S):
            log.error("a mirror had not sent everything when the process ended")
