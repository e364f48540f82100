"""Start a distributed training from a notebook: torchrun as a process of its own.

The training survives the kernel; the kernel follows it through its log as any viewer does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from forge_notebook.core.catalog import Catalog
from forge_notebook.core.control import send_command
from forge_notebook.recording import display
from forge_notebook.trainer.config import TrainingConfig

START_S = 120.0  # torch is loaded once for each process


class LaunchFailed(RuntimeError):
    """torchrun ended with an error; the text is the end of its output."""


class Launched:
    """A training in processes of its own."""

    def __init__(
        self,
        config: TrainingConfig,
        *,
        name: str,
        store: Path,
        processes: int,
        max_restarts: int,
        distributed: str = "ddp",
        resume: str | None = None,
    ) -> None:
        self.store = store
        self._catalog = Catalog(store)
        self._folder = Path(tempfile.mkdtemp(prefix="forge-launch-"))
        job = {"config": config.to_dict(), "name": name, "store": str(store)}
        (self._folder / "job.json").write_text(json.dumps({**job, "distributed": distributed}))
        if resume is not None:  # as after a restart by torchrun
            (self._folder / "session").write_text(resume)
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={processes}", f"--max-restarts={max_restarts}",
            "-m", "forge_notebook.trainer.worker", str(self._folder),
        ]  # fmt: skip
        with open(self._folder / "output.log", "w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        self.session_id = self._wait_for_session()

    def _wait_for_session(self) -> str:
        deadline = time.monotonic() + START_S
        known = self._folder / "session"
        while not (known.exists() and known.read_text()):
            if self.process.poll() is not None:
                raise LaunchFailed(self._output())
            if time.monotonic() > deadline:
                self.process.kill()
                raise LaunchFailed(f"no session after {START_S:.0f} s\n{self._output()}")
            time.sleep(0.05)
        return known.read_text()

    def wait(self, timeout: float | None = None) -> str:
        """Wait for the end; the status of the session. Raises LaunchFailed with the reason."""
        if self.process.wait(timeout):
            raise LaunchFailed(self._output())
        return self.status

    @property
    def status(self) -> str:
        """The session's status, as its log says."""
        return self._catalog.state(self.session_id).status.value

    def send_command(self, name: str, **args: Any) -> None:
        """Ask for pause, resume, stop, checkpoint or set, as any viewer may."""
        send_command(self._catalog.folder(self.session_id), name, args)

    @property
    def widget(self) -> Any:
        """The card of the session."""
        return display.card(self.session_id, str(self.store))

    def _ipython_display_(self) -> None:
        self.widget._ipython_display_()

    def _display_(self) -> Any:
        """What marimo shows of it."""
        return self.widget

    def _output(self) -> str:
        return (self._folder / "output.log").read_text()[-4000:]

    def __repr__(self) -> str:
        return f"<Launched session {self.session_id!r}>"
