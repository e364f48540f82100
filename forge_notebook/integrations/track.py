"""``forge.track``: any iterable as a recorded session, as tqdm does with a bar."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from types import TracebackType
from typing import Any, Generic, TypeVar

from forge_notebook.core.errors import ForgeError
from forge_notebook.core.status import ENDED, Status
from forge_notebook.integrations.show import show
from forge_notebook.recording import Session

T = TypeVar("T")

INTERVAL_S = 0.1  # 10 rows of throughput a second at most: no viewer shows more


class track(Generic[T]):
    """Iterate, with progress, ETA, throughput, pause and stop for free.

    >>> import forge_notebook as forge
    >>> run = forge.track([4.0, 2.0, 1.0], "halving")
    >>> for loss in run:
    ...     run.log(loss=loss)
    >>> run.session.status, run.session.metrics()["currentStep"]
    ('completed', 3)

    Parameters
    ----------
    iterable
        What to iterate over; its length, where it has one, gives progress and ETA.
    name
        What viewers show.
    total
        Number of items, where the iterable does not know it.
    config
        Hyper-parameters, shown and stored as JSON.
    session
        A session to record into instead of a new one; it is then left open at the end.
    display
        Whether to show the card when the loop starts in a notebook.

    The step is the number of the item, from 1. A viewer's pause waits between two items, its stop
    ends the loop there (``stopped``). A loop left by ``break`` or by an exception is ``stopped``
    too; with ``with forge.track(...) as run:`` around it, an exception is ``failed`` with its text.
    """

    def __init__(
        self,
        iterable: Iterable[T],
        name: str = "loop",
        *,
        total: int | None = None,
        config: Mapping[str, Any] | None = None,
        session: Session | None = None,
        display: bool = True,
    ) -> None:
        if total is None:
            total = len(iterable) if isinstance(iterable, Sized) else None
        self._iterable = iterable
        self._total = total
        self._owns = session is None
        # 0 items: a session counts its steps from 1, so there is no progress to show
        self.session = session or Session(name, config=config, total_steps=total or None)
        self._display = display
        self.step = 0
        self._inside = False
        self._outcome = "completed"
        self._due = 0.0
        self._last = (0.0, 0)

    def __len__(self) -> int:
        if self._total is None:
            raise TypeError("this iterable has no length; give track(..., total=n)")
        return self._total

    def __iter__(self) -> Iterator[T]:
        if Status(self.session.status) in ENDED:
            raise ForgeError("this loop was recorded already; make a new forge.track()")
        if self._display:
            show(self.session)
        self._last = (time.monotonic(), self.step)
        self._due = self._last[0] + INTERVAL_S
        self._outcome = "stopped"
        try:
            self.session.start()
            for item in self._iterable:
                self.step += 1
                yield item
                self._tick()
                if self.session.should_stop:
                    return
            self._row(time.monotonic())
            self._outcome = "completed"
        finally:
            if self._owns and not self._inside:
                self.session.finish(self._outcome)

    def log(self, **metrics: Any) -> None:
        """Record metrics at the present item; values as for ``Session.log``."""
        self.session.log(self.step, **metrics)

    def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + INTERVAL_S
            self._row(now)

    def _row(self, now: float) -> None:
        then, step = self._last
        if self.step > step and now > then:
            self._last = (now, self.step)
            self.session.log(self.step, items_per_s=(self.step - step) / (now - then))

    def __enter__(self) -> track[T]:
        self._inside = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._owns and kind is None:
            self.session.finish(self._outcome)
        elif self._owns:
            self.session.__exit__(kind, error, trace)
