"""The way of a row from ``log`` to the writer: compiled, general, or waiting for a device."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

from forge_notebook.core.compiled import compilable, compile_log
from forge_notebook.core.runlog import Writer
from forge_notebook.recording.deferred import Deferred
from forge_notebook.recording.values import PLAIN, floats, is_deferred

COMPILE_AFTER = 16  # rows of the same metrics in a row
COMPILE_AT_MOST = 8  # times; a loop whose metrics change all the time is not worth it


class Rows:
    """Takes the rows of one session.

    ``log`` is what takes a row at present: ``general``, and a function made for the loop's metrics
    as soon as they are known. ``start`` is called for a row while the session is not running;
    ``compiled`` is told of each function that was made, unless it is None: nothing is compiled.
    """

    def __init__(
        self,
        writer: Writer,
        start: Callable[[], None],
        compiled: Callable[[Callable[..., None]], None] | None,
    ) -> None:
        self.log: Callable[..., None] = self.general
        self.steps: dict[int, int] = {}  # the last of each model
        self._writer = writer
        self._append_point = writer.append_point
        self._start = start
        self._tell = compiled
        self._running = False
        self._names: tuple[str, ...] = ()  # of the newest row that took the general way
        self._same_names = 0
        self._compiled = 0
        self._deferred = Deferred(self._append_point, writer.drop)

    def general(self, step: int | None = None, *, model: int = 0, **metrics: Any) -> None:
        """Take any row. Raises what ``Session.log`` does."""
        if step is None:
            step = self.steps.get(model, -1) + 1
        if not self._running:
            self._start()
        self.steps[model] = step
        for value in metrics.values():
            if value.__class__ not in PLAIN:
                self._other(step, model, metrics)
                return
        if self._deferred:
            self._other(step, model, metrics)
            return
        try:
            self._append_point(step, model, metrics)
        except (struct.error, OverflowError):  # a step or an int that does not fit: say which
            self._other(step, model, metrics)
        names = tuple(metrics)
        if names != self._names:
            self._names, self._same_names = names, 0
        self._same_names += 1
        if self._same_names == COMPILE_AFTER:
            self._compile(names)

    def _compile(self, names: tuple[str, ...]) -> None:
        if self._tell is None or self._compiled >= COMPILE_AT_MOST or not compilable(names):
            return
        self._compiled += 1
        self.log = compile_log(self._writer, names, self.steps, PLAIN, self.general)
        self._tell(self.log)

    def _other(self, step: Any, model: int, metrics: dict[str, Any]) -> None:
        try:
            step, model = int(step), int(model)
        except (TypeError, ValueError):
            raise TypeError(f"step={step!r}, model={model!r}: log() takes integers there") from None
        if not (-(1 << 63) <= step < 1 << 63 and 0 <= model <= 65_535):
            raise ValueError(f"step={step}, model={model}: model is 0 to 65535, step fits 64 bits")
        if self._deferred or any(map(is_deferred, metrics.values())):
            with self._writer.lock:  # against the pump, which lifts the hold
                self._writer.held = True
                self._deferred.add(time.time_ns(), step, model, metrics)
        else:
            self._append_point(step, model, floats(metrics))

    def run(self, running: bool) -> None:
        """Whether the session is running from now on. Rows that wait are written first."""
        self._running = running
        self.drain(wait=True)
        self._hold()

    def drain(self, *, wait: bool) -> None:
        """Write the rows whose device got to them; with ``wait``, all."""
        if self._deferred:
            self._deferred.drain(wait=wait)
            self._hold()

    def _hold(self) -> None:
        """Whether rows must take the general way: not running, or others wait before them."""
        with self._writer.lock:
            self._writer.held = not self._running or bool(self._deferred)
