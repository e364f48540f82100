"""A W&B run over a session: what ``forge_notebook.wandb.init`` returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any

from forge_notebook.core.errors import ForgeError
from forge_notebook.integrations.control import is_number, log_name
from forge_notebook.integrations.torch_watch import TorchWatch, watch_torch
from forge_notebook.recording import Session


class Unsupported(ForgeError, AttributeError):
    """The shim tracks numbers only; the message names what to use instead."""


ALTERNATIVES = {
    "save": "write into run.session.folder; the files stay beside the run",
    "Artifact": "write into run.session.folder; the files stay beside the run",
    "Image": "save the picture into run.session.folder",
    "Table": "save a CSV into run.session.folder",
    "Histogram": "log a few quantiles as numbers",
    "sweep": "use Ray Tune with forge_notebook.integrations.ray.ForgeTuneCallback",
    "agent": "use Ray Tune with forge_notebook.integrations.ray.ForgeTuneCallback",
    "Api": "use forge_notebook.sessions() and forge_notebook.load(id)",
    "restore": "use forge_notebook.load(id)",
}


class Config(MutableMapping[str, Any]):
    """``wandb.config``: a mapping whose entries are attributes too. Later changes are events."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_session", None)

    def update(self, *sources: Any, allow_val_change: bool = True, **values: Any) -> None:
        """Set entries from mappings, namespaces (argparse) and keywords."""
        for source in sources:
            for name, value in (source if isinstance(source, Mapping) else vars(source)).items():
                self[name] = value
        for name, value in values.items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value
        if self._session is not None:
            self._session.event("config", **{name: value})

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"the config has no {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __repr__(self) -> str:
        return repr(self._values)


class Run:
    """What ``init`` returns; a context manager."""

    def __init__(self, session: Session, config: Config, ended: Callable[[Run], None]) -> None:
        self.session = session
        self._ended = ended
        self.config = config
        self.summary: dict[str, Any] = {}
        self.step = 0
        self._aggregates: dict[str, str] = {}
        self._pending: dict[str, Any] = {}
        self._watches: list[TorchWatch] = []

    @property
    def id(self) -> str:
        """The session's id."""
        return self.session.id

    @property
    def name(self) -> str:
        """What viewers show."""
        return self.session.name

    def log(
        self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        """Record a row; nested mappings become ``a.b``. Raises Unsupported for what is no number.

        As in W&B, calls of the same ``step`` (or with ``commit=False``) share one row. Unlike
        W&B, a step that goes back is recorded too.
        """
        row = dict(_flat(data))
        if step is not None and step != self.step:
            self._commit()
            self.step = step
        self._pending.update(row)
        for name, value in row.items():
            self._summarize(name, value)
        if commit or (commit is None and step is None):
            self._commit()
            self.step += 1

    def _commit(self) -> None:
        if self._pending:
            row, self._pending = self._pending, {}
            self.session.log(self.step, **row)

    def _summarize(self, name: str, value: Any) -> None:
        how = self._aggregates.get(name, "last")
        if how in ("min", "max"):
            number, before = float(value), self.summary.get(name, math.nan)
            better = number < before if how == "min" else number > before
            value = number if math.isnan(before) or better else before
        self.summary[name] = value

    def define_metric(self, name: str, *, summary: str | None = None, **_: Any) -> None:
        """``summary``: ``min``, ``max`` or ``last``; the step metric is every viewer's choice."""
        if summary not in (None, "min", "max", "last"):
            raise Unsupported(f"summary={summary!r}: use 'min', 'max' or 'last'")
        self._aggregates[name] = summary or "last"

    def alert(self, title: str, text: str = "", level: Any = "INFO", **_: Any) -> None:
        """A mark on the curve, shown by every viewer."""
        message = f"{title}: {text}" if text else title
        kind = str(getattr(level, "value", level)).lower()
        self.session.event("alert", step=self.step, kind=kind, message=message)

    def watch(
        self, models: Any, criterion: Any = None, log: str | None = "gradients",
        log_freq: int = 1000, *, optimizer: Any = None, **_: Any,
    ) -> None:  # fmt: skip
        """Gradient and weight norms. Needs ``optimizer=``: W&B's histograms are not recorded."""
        if optimizer is None:
            raise Unsupported(
                "watch() here records norms at the optimizer's steps: add optimizer=..., "
                "or use forge_notebook.watch_torch(model, optimizer, session=run.session)"
            )
        if log is not None:
            watch = watch_torch(models, optimizer, session=self.session, every=log_freq)
            self._watches.append(watch)

    @property
    def should_stop(self) -> bool:
        """Ours: whether a viewer asked to stop; waits while one asked to pause."""
        return self.session.should_stop

    def finish(self, exit_code: int | None = None, **_: Any) -> None:
        """End the run; an exit code other than 0 is a failure."""
        for watching in self._watches:
            watching.close()
        self._commit()
        if self.summary:
            self.session.event("summary", **{k: _plain(v) for k, v in self.summary.items()})
        if exit_code:
            self.session.finish("failed", f"exit code {exit_code}")
        self.session.finish()
        self._ended(self)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._commit()
            self.session.__exit__(kind, error, trace)
        self.finish()

    def __getattr__(self, name: str) -> Any:
        return missing(name)


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif is_number(value):
            yield log_name(f"{prefix}{name}"), value
        else:
            raise Unsupported(
                f"log({prefix}{name!s}={type(value).__name__}): only numbers are recorded; "
                "save other things into run.session.folder"
            )


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def missing(name: str) -> Any:
    """Raise Unsupported for a name of W&B's that is not here."""
    if name.startswith("__"):
        raise AttributeError(name)
    hint = ALTERNATIVES.get(name, "see forge_notebook.session")
    raise Unsupported(f"wandb.{name} is not supported here: {hint}")
