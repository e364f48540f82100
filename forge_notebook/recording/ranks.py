"""Which process of a distributed training records, and under which id.

A launcher (torchrun, and whatever sets the same variables) starts one process per rank, and every
one runs the same ``forge.session(...)``. Rank 0 records; the others' sessions take every call and
write nothing. With ``rank=`` given each rank records into the one log of the session.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from forge_notebook.core.catalog import slug


def is_silent(rank: int | None) -> bool:
    """Whether this process is one of several and not the one that records."""
    if rank is not None:
        return False
    size, own = os.environ.get("WORLD_SIZE", "1"), os.environ.get("RANK", "0")
    return size.isdigit() and own.isdigit() and int(size) > 1 and int(own) > 0


def shared_id(name: str) -> str:
    """The id that every rank of one launch on this machine comes to by itself.

    From what the launcher gives all of them, and its own process, which ends with the launch.
    Raises ValueError where nothing was launched.
    """
    launch = _launch(os.environ)
    if launch is None:
        raise ValueError(
            "rank= needs a launcher (torchrun) or session_id=, the same for every rank"
        )
    text = "-".join([*launch, str(os.getppid()), _started(os.getppid())])
    return f"{slug(name)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _launch(environment: Mapping[str, str]) -> list[str] | None:
    if "MASTER_ADDR" not in environment or "MASTER_PORT" not in environment:
        return None
    keys = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    return [environment.get(key, "") for key in keys]


def _started(process: int) -> str:
    """When a process began, where the system says so: process ids are used again."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
