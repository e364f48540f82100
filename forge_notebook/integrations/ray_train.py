"""Ray Train: a session for one ``trainer.fit()``.

Ray's controller, which gets the reports, is a process of its own that outlives ``fit()``: it
appends them to a file in the session's folder, and the driver, which holds the session, follows it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ray.train import UserCallback

from forge_notebook.integrations.ray import reported
from forge_notebook.recording import Session

INTERVAL_S = 0.2


class ForgeTrainCallback(UserCallback):
    """``with ForgeTrainCallback("run") as callback:`` around ``trainer.fit()``.

    Give it to ``RunConfig(callbacks=[callback])``. Records what rank 0 reports, counted from 1;
    checkpoints and failures of workers are marks. The session is ``callback.session``. The store
    must be a folder that driver and controller share.
    """

    def __init__(
        self, name: str = "train", *, config: Mapping[str, Any] | None = None,
        total_steps: int | None = None,
    ) -> None:  # fmt: skip
        self.session = Session(name, config=config, total_steps=total_steps)
        self._path = str(self.session.folder / "ray-reports.jsonl")
        self._done = threading.Event()
        self._reports = 0
        self._offset = 0
        self._thread = threading.Thread(target=self._follow, name="forge-ray", daemon=True)
        self._thread.start()

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path}  # what the controller needs

    # In the controller's process

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        """Hand rank 0's numbers to the driver."""
        row = {name: float(value) for name, value in reported(metrics[0]).items()}
        self._hand({"row": row, "checkpoint": None if checkpoint is None else checkpoint.path})

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Workers failed; Ray may start them again."""
        told = "; ".join(f"rank {rank}: {error}" for rank, error in worker_exceptions.items())
        self._hand({"alert": told})

    def _hand(self, message: dict[str, Any]) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(message) + "\n")

    # In the driver's process

    def _follow(self) -> None:
        while not self._done.wait(INTERVAL_S):
            self._record()
        self._record()

    def _record(self) -> None:
        path = Path(self._path)
        data = path.read_bytes()[self._offset :] if path.is_file() else b""
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            message = json.loads(line)
            if "alert" in message:
                self.session.event("alert", kind="worker_failed", message=message["alert"])
                continue
            self._reports += 1
            self.session.log(self._reports, **message["row"])
            if message["checkpoint"] is not None:
                path_ = message["checkpoint"]
                self.session.event("checkpoint_saved", step=self._reports, path=path_)

    def __enter__(self) -> ForgeTrainCallback:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        self.session.__exit__(kind, error, trace)
