"""One process of a distributed training: ``torchrun -m forge_notebook.trainer.worker FOLDER``.

The folder holds ``job.json``: config, name, store, and distributed, ``ddp`` (default) or ``fsdp``.
The first process writes the session's id to ``session`` there; after a restart by torchrun, or
where that file is there already, that session is resumed from its checkpoints.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from forge_notebook.trainer.cognate import CognateTrainer
from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.group import GroupSession, kind_of

TIMEOUT = timedelta(seconds=120)  # a process that died is noticed by torchrun much earlier


def main(folder: Path) -> None:
    """Join the group, train, and leave."""
    job = json.loads((folder / "job.json").read_text())
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # device="cuda" means this one
    _join("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        _train(folder, job)
    finally:
        dist.destroy_process_group()


def _join(backend: str) -> None:
    """Meet the other processes where those of an earlier attempt have left nothing.

    On one machine torchrun keeps its store over restarts, and with it the addresses of the killed
    processes: a new one that read such an address first waited for it in vain (2 of 2 times here,
    torch 2.13). Machines of their own count their restarts each for itself: there it is torch's.
    """
    if os.environ.get("GROUP_WORLD_SIZE") != "1":
        dist.init_process_group(backend, timeout=TIMEOUT)
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    agent = dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), size, False, TIMEOUT
    )
    store = dist.PrefixStore(  # type: ignore[attr-defined]
        f"attempt-{os.environ['TORCHELASTIC_RESTART_COUNT']}", agent
    )
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)


def _train(folder: Path, job: dict[str, Any]) -> None:
    distributed, size = job.get("distributed", "ddp"), dist.get_world_size()
    group = kind_of(distributed, TrainingConfig.from_dict(job["config"]), size)()
    known = folder / "session"
    first = None
    if group.rank == 0:
        if known.exists():
            first = CognateTrainer(resume=known.read_text(), store=job["store"])
        else:
            first = CognateTrainer(job["config"], name=job["name"], store=job["store"])
        # Written before the first step, so that a restart at any moment finds it.
        known.write_text(first.session.id)
    told: tuple[dict[str, Any], set[int] | None, Path] = group.from_first(
        lambda: _tell(first)  # type: ignore[arg-type]
    )
    config, completed, session_folder = told
    if distributed == "fsdp" and config["threads"] == "auto":  # no copy to measure with
        config["threads"] = max(1, (os.cpu_count() or 1) // int(os.environ["LOCAL_WORLD_SIZE"]))
    session = GroupSession(None if first is None else first.session, group, session_folder)
    trainer = CognateTrainer(config, name=job["name"], session=session, group=group)
    trainer.complete_only(completed)
    trainer.fit()


def _tell(trainer: CognateTrainer) -> tuple[dict[str, Any], set[int] | None, Path]:
    return trainer.config.to_dict(), trainer.completed, trainer.session.folder


if __name__ == "__main__":
    main(Path(sys.argv[1]))
