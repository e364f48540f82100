"""The one background thread of recording in a process: control, upkeep, values from accelerators.

A guest of the training process: a busy Python thread beside small steps makes them up to 92 times
slower (the GIL convoy, measured). One round is a ``stat`` per session, about 5 us each 50 ms.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Protocol

log = logging.getLogger(__name__)

INTERVAL_S = 0.05  # a command is seen within a quarter of the 200 ms goal


class Client(Protocol):
    """What the pump serves."""

    def pump(self) -> None:
        """One round; short."""


class Pump:
    """Serves every open session of this process; its thread lives while there is one."""

    def __init__(self) -> None:
        self._clients: set[Client] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def add(self, client: Client) -> None:
        """Serve a session from now on."""
        with self._lock:
            self._clients.add(client)
            if self._thread is None:
                self._wake.clear()
                self._thread = threading.Thread(target=self._run, name="forge-pump", daemon=True)
                self._thread.start()

    def remove(self, client: Client) -> None:
        """Serve it no longer."""
        with self._lock:
            self._clients.discard(client)
            if not self._clients:
                self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(INTERVAL_S)
            with self._lock:
                clients = list(self._clients)
                if not clients:
                    self._thread = None
                    return
            for client in clients:
                try:
                    client.pump()
                except Exception:
                    log.exception("the recorder's background round failed; recording goes on")


pump = Pump()


def _forget() -> None:
    # Threads do not survive a fork, and the sessions belong to the parent.
    pump.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
