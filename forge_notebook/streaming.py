"""SPEC's API over the same parts: sessions that train, an emitter for any loop, the listener.

>>> import forge_notebook as forge
>>> integration = forge.StreamingIntegration()
>>> integration.initialize_components()
True
>>> integration.get_integration_stats()["sessions_created"]
0

Nothing here is needed for watching from Jupyter; this serves dashboards that know SPEC's server.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forge_notebook.core.catalog import Catalog, store_path
from forge_notebook.core.errors import UnknownSession
from forge_notebook.core.runlog import POINTS, Reader
from forge_notebook.core.status import ENDED
from forge_notebook.core.wire import SessionStatus
from forge_notebook.recording import Session

if TYPE_CHECKING:
    from forge_notebook.server.background import BackgroundServer
    from forge_notebook.trainer import CognateTrainer

UNLIMITED_HZ = 1e9  # the hub still looks at the logs 50 times a second, no more


@dataclass(frozen=True)
class PerformanceOptimizer:
    """How the listener sends.

    ``max_update_rate``: progress updates per second and session, while ``throttle_enabled``; what
    is between two updates comes with the later one, and events are never held back.
    ``payload_compression``: gzip of HTTP answers (history, curves) for clients that accept it.
    Raises ValueError where the rate is not above 0.
    """

    max_update_rate: float = 10.0
    throttle_enabled: bool = True
    payload_compression: bool = True

    def __post_init__(self) -> None:
        if not self.max_update_rate > 0:
            raise ValueError(
                f"max_update_rate={self.max_update_rate!r}: give updates per second above 0"
            )

    @property
    def rate_hz(self) -> float:
        """The hub's rate."""
        return self.max_update_rate if self.throttle_enabled else UNLIMITED_HZ


class TrainingProgressEmitter:
    """Sessions of any training code, told in SPEC's fields, and the listener that serves them.

    ``optimizer`` says how the listener sends; ``store`` is the folder of all sessions, default
    ``$FORGE_STORE`` or Jupyter's data folder.
    """

    def __init__(
        self,
        optimizer: PerformanceOptimizer | None = None,
        *,
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        self.optimizer = optimizer or PerformanceOptimizer()
        self.store = Path(store) if store is not None else store_path()
        self.server: BackgroundServer | None = None
        self._sessions: dict[str, Session] = {}

    def serve(self, port: int = 5001, allow_origins: Sequence[str] = ()) -> str:
        """Listen on loopback, read-only, for programs and for pages of these origins; the address.

        ``port``: 0 takes a free one; ``allow_origins``: such as ``http://localhost:3000``.
        Raises OSError where the port is taken, RuntimeError where this emitter already listens.
        """
        from forge_notebook.server.background import BackgroundServer

        if self.server is not None:
            raise RuntimeError(f"this emitter listens on {self.server.url}; close() it first")
        self.server = BackgroundServer(
            self.store,
            port=port,
            allow_origins=allow_origins,
            rate_hz=self.optimizer.rate_hz,
            compress=self.optimizer.payload_compression,
        )
        return self.server.url

    def create_session(
        self, config: Mapping[str, Any] | None = None, *, total_steps: int | None = None
    ) -> str:
        """A new session; its id. ``model_count`` of the config is the number of models.

        ``total_steps`` are each model's. Raises ValueError where either is not above 0.
        """
        config = dict(config or {})
        session = Session(
            str(config.get("name", "session")),
            config=config,
            models=int(config.get("model_count", 1)),
            total_steps=total_steps,
            store=self.store,
        )
        self._sessions[session.id] = session
        return session.id

    def emit_progress(self, session_id: str, metrics: Mapping[str, Any]) -> None:
        """Record one row: ``loss`` and further numbers at ``currentStep`` of ``currentModel``.

        SPEC's derived fields (perplexity, overallProgress, times) are not taken: every viewer
        computes them from what was recorded. Raises UnknownSession.
        """
        values = {
            name: value
            for name, value in metrics.items()
            if name not in _DERIVED and isinstance(value, (int, float)) and value is not None
        }
        model = int(metrics.get("currentModel", 1)) - 1
        self._session(session_id).log(metrics.get("currentStep"), model=model, **values)

    def emit_model_completed(self, session_id: str, model_index: int) -> None:
        """Record that a model (0-based) is done. Raises UnknownSession."""
        self._session(session_id).model_completed(model_index)

    def emit_training_completed(self, session_id: str) -> None:
        """Record the end. Raises UnknownSession."""
        self._session(session_id).finish()

    def callback(self, session_id: str) -> Callable[[Mapping[str, Any]], None]:
        """A progress callback for the session, which emits what it is given.

        The callback raises UnknownSession for a session that is not this emitter's.
        """
        return lambda metrics: self.emit_progress(session_id, metrics)

    def _session(self, session_id: str) -> Session:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise UnknownSession(f"this emitter made no session {session_id!r}") from None

    def close(self) -> None:
        """Stop listening; the sessions stay."""
        if self.server is not None:
            self.server.close()
            self.server = None


_DERIVED = frozenset(
    {
        "perplexity", "grokProgress", "modelParams", "currentStep", "totalSteps", "currentModel",
        "totalModels", "overallProgress", "trainingTime", "estimatedTimeRemaining", "timestamp",
    }
)  # fmt: skip


class StreamingIntegration:
    """Creates, starts and watches training sessions of the Cognate trainer.

    ``optimizer`` says how the listener sends; ``store`` is the folder of all sessions, default
    ``$FORGE_STORE`` or Jupyter's data folder.
    """

    def __init__(
        self,
        optimizer: PerformanceOptimizer | None = None,
        *,
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        self.emitter = TrainingProgressEmitter(optimizer, store=store)
        self._trainers: dict[str, CognateTrainer] = {}
        self._readers: dict[str, Reader] = {}
        self._rows = 0

    def initialize_components(
        self, websocket_port: int | None = None, allow_origins: Sequence[str] = ()
    ) -> bool:
        """Make the store; with ``websocket_port`` also listen there, for ``allow_origins``.

        As ``TrainingProgressEmitter.serve`` does. Raises OSError where the store cannot be made
        or the port is taken.
        """
        self.emitter.store.mkdir(mode=0o700, parents=True, exist_ok=True)
        if websocket_port is not None:
            self.emitter.serve(websocket_port, allow_origins)
        return True

    def create_training_session(self, config: Mapping[str, Any] | None = None) -> str:
        """A session ready to train; its id. ``config`` has the fields of ``TrainingConfig``.

        Raises ConfigError naming an impossible setting.
        """
        from forge_notebook.trainer import CognateTrainer

        trainer = CognateTrainer(config, store=self.emitter.store)
        session_id: str = trainer.session.id
        self._trainers[session_id] = trainer
        self._readers[session_id] = Reader(trainer.session.folder / "run.log")
        return session_id

    def start_training_session(self, session_id: str) -> bool:
        """Train in the background. Raises UnknownSession, RuntimeError where it was started."""
        self.trainer(session_id).start()
        return True

    def trainer(self, session_id: str) -> CognateTrainer:
        """The trainer of a session: pause, stop, wait, callbacks. Raises UnknownSession."""
        try:
            return self._trainers[session_id]
        except KeyError:
            raise UnknownSession(f"this integration made no session {session_id!r}") from None

    def get_session_status(self, session_id: str) -> SessionStatus:
        """The session as every viewer sees it. Raises UnknownSession."""
        self.trainer(session_id)
        return Catalog(self.emitter.store).status(session_id)

    def get_integration_stats(self) -> dict[str, int]:
        """What happened so far, read back from the logs and counted by this process's listener.

        Counts of sessions, rows of metrics, messages sent and errors, by name.
        """
        states = [self.get_session_status(session_id) for session_id in self._trainers]
        for reader in self._readers.values():
            while records := reader.read():
                self._rows += sum(record.kind == POINTS for record in records)
        ended = {status.value for status in ENDED}
        failed = sum(state["status"] == "failed" for state in states)
        return {
            "sessions_created": len(states),
            "active_sessions": sum(state["status"] not in ended for state in states),
            "total_metrics_processed": self._rows,
            "transformations_successful": self._rows,
            "websocket_messages_sent": 0 if (s := self.emitter.server) is None else s.sent(),
            "errors_encountered": failed + sum(state["lost"] for state in states),
        }

    def close(self) -> None:
        """Stop what trains, wait for it, and stop listening."""
        for trainer in self._trainers.values():
            if trainer.status in ("running", "paused"):
                trainer.stop()
                trainer.wait()
        self.emitter.close()
