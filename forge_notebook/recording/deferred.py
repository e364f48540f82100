"""Values that are still on an accelerator: kept as copies, read when their device got to them.

``log`` must not wait for a device, so it keeps a detached clone (later steps overwrite the
original) and a mark behind it in the device's queue. The background thread asks each mark whether
its moment has passed, and copies what is ready on a stream of its own, beside the training's work
and not behind it. These rows are the one thing that a SIGKILL can lose.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from forge_notebook.recording.values import floats, is_deferred

MAX_ROWS = 100_000  # a device that never answers must not fill the memory
MAX_COPY = 1000  # rows copied at once


class Row(NamedTuple):
    """One ``log`` call with a value on a device, or one that came behind such a call."""

    time_ns: int
    step: int
    model: int
    metrics: dict[str, Any]
    marks: list[Any]


class Deferred:
    """The rows that wait, in the order of the calls."""

    def __init__(
        self,
        write: Callable[[int, int, dict[str, float], int], None],
        drop: Callable[[OSError], None],
    ) -> None:
        self._write = write
        self._drop = drop
        self._rows: deque[Row] = deque()
        self._draining = threading.Lock()  # the pump and flush() both write
        self._streams: dict[Any, Any] = {}

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add(self, time_ns: int, step: int, model: int, metrics: dict[str, Any]) -> None:
        """Keep a row. Raises TypeError where a value on the host is not a number."""
        if len(self._rows) >= MAX_ROWS:
            self._drop(OSError(errno.ENOBUFS, f"{MAX_ROWS} rows wait for a device"))
            return
        on_device = {n: v.detach().clone() for n, v in metrics.items() if is_deferred(v)}
        on_host = floats({n: v for n, v in metrics.items() if n not in on_device})
        marks = [_mark(device) for device in {v.device for v in on_device.values()}]
        kept = {n: on_device[n] if n in on_device else on_host[n] for n in metrics}
        self._rows.append(Row(time_ns, step, model, kept, marks))

    def drain(self, *, wait: bool) -> None:
        """Write the rows whose values are there; with ``wait``, all of them."""
        with self._draining:
            while self._rows:
                ready: list[Row] = []
                for row in self._rows:
                    if len(ready) >= MAX_COPY or not (wait or all(m.query() for m in row.marks)):
                        break
                    ready.append(row)
                if not ready:
                    return
                for row, metrics in zip(ready, self._read(ready), strict=True):
                    self._write(row.step, row.model, metrics, row.time_ns)
                    self._rows.popleft()

    def _read(self, rows: Sequence[Row]) -> list[dict[str, float]]:
        by_device: dict[Any, list[Any]] = {}
        for row in rows:
            for value in row.metrics.values():
                if is_deferred(value):
                    by_device.setdefault(value.device, []).append(value)
        read: dict[int, float] = {}
        for row in rows:
            for mark in row.marks:
                mark.synchronize()
        for device, values in by_device.items():
            with self._beside(device):
                numbers = _copy(values)
            read.update(zip(map(id, values), numbers, strict=True))
        return [{n: read.get(id(v), v) for n, v in row.metrics.items()} for row in rows]

    def _beside(self, device: Any) -> Any:
        """A stream of ours on the device, where it has streams."""
        module = _module(device)
        if not (hasattr(module, "Stream") and hasattr(module, "stream")):
            return nullcontext()
        if device not in self._streams:
            self._streams[device] = module.Stream(device)
        return module.stream(self._streams[device])


class _Passed:
    """The mark of a device that offers none: its values are read in its own queue."""

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass


def _torch() -> Any:
    return __import__("torch")  # whoever logs a tensor has it loaded


def _module(device: Any) -> Any:
    return getattr(_torch(), device.type, None)


def _mark(device: Any) -> Any:
    module = _module(device)
    if not hasattr(module, "Event"):
        return _Passed()
    event = module.Event()
    event.record()
    return event


def _copy(values: Sequence[Any]) -> list[float]:
    torch = _torch()
    numbers: list[float] = torch.stack([v.reshape(()).float() for v in values]).tolist()
    return numbers
