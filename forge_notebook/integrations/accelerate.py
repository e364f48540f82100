"""Accelerate: a tracker; ``Accelerator(log_with=ForgeTracker("my run"))``."""

from __future__ import annotations

from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

from forge_notebook.integrations.control import numbers
from forge_notebook.integrations.show import show
from forge_notebook.recording import Session


class ForgeTracker(GeneralTracker):
    """Records what ``accelerator.log`` gets, on the main process; ended by ``end_training``.

    ``accelerator.init_trackers(project, config)`` starts the session. Values that are no numbers
    are left out. ``tracker.should_stop`` honours viewers: with several processes let all follow
    the main one's answer.
    """

    name = "forge"
    requires_logging_directory = False
    main_process_only = True

    @on_main_process
    def __init__(
        self, run_name: str, *, total_steps: int | None = None, display: bool = True
    ) -> None:
        super().__init__()
        self.run_name = run_name
        self.total_steps = total_steps
        self.display = display
        self.session: Session | None = None

    @on_main_process
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Start the session with this configuration."""
        self._start(values)

    def _start(self, config: dict[str, Any]) -> Session:
        if self.session is None:
            self.session = Session(self.run_name, config=config, total_steps=self.total_steps)
            if self.display:
                show(self.session)
        return self.session

    @property
    def tracker(self) -> Session | None:
        """The session, as ``accelerator.get_tracker("forge", unwrap=True)`` gives it."""
        return self.session

    @on_main_process
    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        """Record one row."""
        if row := numbers(values):
            self._start({}).log(step, **row)

    @property
    def should_stop(self) -> bool:
        """Whether a viewer asked to stop; waits while one asked to pause."""
        return self.session is not None and self.session.should_stop

    @on_main_process
    def finish(self) -> None:
        """End the session: ``stopped`` where a viewer asked for it."""
        if self.session is not None:
            self.session.finish("stopped" if self.should_stop else "completed")
