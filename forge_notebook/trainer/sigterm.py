"""SIGTERM (a scheduler's or a container's notice): a checkpoint, a proper end, then the signal."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from typing import Any, Protocol

GRACE = 8.0  # s; Kubernetes and Slurm kill after 30, docker after 10


class Stoppable(Protocol):
    """What is stopped."""

    def stop(self) -> None:
        """Ask to stop."""
        ...

    def wait(self, timeout: float | None = None) -> str:
        """Wait for the end."""
        ...


_running: weakref.WeakSet[Any] = weakref.WeakSet()


def stop_on_sigterm(trainer: Stoppable) -> None:
    """Stop the trainer on SIGTERM, unless somebody else handles the signal already."""
    _running.add(trainer)
    if threading.current_thread() is not threading.main_thread():
        return  # Python lets only the main thread set handlers
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _stop_all)


def _stop_all(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    waiter = threading.Thread(target=_stop_and_end, daemon=True)
    waiter.start()


def _stop_and_end() -> None:
    trainers = list(_running)
    for trainer in trainers:
        try:
            trainer.stop()
        except Exception:  # it has ended by itself
            continue
    for trainer in trainers:
        try:
            trainer.wait(GRACE)
        except BaseException:  # its own failure is in its log
            continue
    os.kill(os.getpid(), signal.SIGTERM)
