"""W&B's names for scripts that track numbers: ``import forge_notebook.wandb as wandb``.

Nothing goes to a cloud and nothing needs an account: runs are sessions of the store. What W&B can
do beyond numbers raises Unsupported, which names the alternative, instead of doing nothing.

>>> import forge_notebook.wandb as wandb
>>> with wandb.init(project="demo", config={"lr": 0.1}) as run:
...     wandb.log({"loss": 0.5, "val": {"acc": 0.9}})
...     wandb.log({"loss": 0.25})
>>> wandb.summary["loss"], run.session.status
(0.25, 'completed')
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Mapping
from typing import Any

from forge_notebook.core.catalog import check_session_id, store_path
from forge_notebook.core.errors import ForgeError
from forge_notebook.integrations.show import in_notebook, show
from forge_notebook.integrations.wandb_run import Config, Run, Unsupported, missing
from forge_notebook.recording import Session

__all__ = [
    "Config",
    "Run",
    "Unsupported",
    "alert",
    "define_metric",
    "finish",
    "init",
    "log",
    "login",
    "watch",
]

IGNORED = frozenset(
    {"entity", "dir", "mode", "settings", "anonymous", "reinit", "force", "save_code"}
)

run: Run | None = None
_last: Run | None = None


def init(
    project: str | None = None, *, name: str | None = None, config: Any = None,
    id: str | None = None, resume: bool | str | None = None, total_steps: int | None = None,
    **options: Any,
) -> Run:  # fmt: skip
    """Start a run; one that still runs is finished first. In a notebook its card shows.

    ``resume=`` with ``id=`` of a session in the store goes on with that one. ``total_steps``,
    ours, gives progress and ETA. Raises Unsupported for an option that would be lost.
    """
    global run, _last
    if run is not None:
        run.finish()
    about = {k: options.pop(k) for k in ("tags", "notes", "group", "job_type") if k in options}
    if unknown := set(options) - IGNORED:
        raise Unsupported(f"init({', '.join(sorted(unknown))}=...) is not supported here")
    values = dict(config if isinstance(config, Mapping) else vars(config)) if config else {}
    stored = values if not about and project is None else {**values, "wandb": about}
    if project is not None:
        stored["wandb"]["project"] = project
    known = resume not in (None, False, "never") and id is not None
    exists = known and id is not None and (store_path() / check_session_id(id)).is_dir()
    session = Session(
        name or project or "run", config=stored, total_steps=total_steps,
        resume=id if exists or resume == "must" else None,
    )  # fmt: skip
    settings = Config(values)
    run = _last = Run(session, settings, _ended)
    if exists and (metrics := session.metrics()) is not None:
        run.step = int(metrics["currentStep"] or 0) + 1
    object.__setattr__(settings, "_session", session)
    show(session)
    return run


def _ended(ended: Run) -> None:
    global run
    if run is ended:
        run = None


def _current() -> Run:
    if run is None:
        raise ForgeError("call wandb.init() first")
    return run


def log(data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None:
    """``Run.log`` of the present run."""
    _current().log(data, step, commit)


def define_metric(name: str, **options: Any) -> None:
    """``Run.define_metric`` of the present run."""
    _current().define_metric(name, **options)


def alert(title: str, text: str = "", level: Any = "INFO", **options: Any) -> None:
    """``Run.alert`` of the present run."""
    _current().alert(title, text, level, **options)


def watch(models: Any, criterion: Any = None, **options: Any) -> None:
    """``Run.watch`` of the present run."""
    _current().watch(models, criterion, **options)


def finish(exit_code: int | None = None, **_: Any) -> None:
    """``Run.finish`` of the present run, if there is one."""
    if run is not None:
        run.finish(exit_code)


def login(*_: Any, **__: Any) -> bool:
    """There is no account: always True."""
    return True


def __getattr__(name: str) -> Any:
    if name in ("config", "summary") and _last is not None:
        return getattr(_last, name)
    return missing(name)


@atexit.register
def _finish_at_exit() -> None:
    if run is not None:
        crashed = getattr(sys, "last_value", None) is not None and not in_notebook()
        run.finish(1 if crashed else None)
