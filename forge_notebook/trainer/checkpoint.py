"""Checkpoints that are whole or absent, written beside the training.

Packed in memory first: the size is known and a full disk is a plain OSError, which leaves the old
files as they were. The training waits for the copy of its tensors only; a thread packs and writes.
"""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forge_notebook.trainer.archive import Damaged, pack, snapshot, unpack

KEEP = 3
BEST = "best.zip"
FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def _new_writer() -> None:
    global _writer  # threads do not survive a fork
    _writer = ThreadPoolExecutor(1, thread_name_prefix="forge-checkpoint")


_writer: ThreadPoolExecutor
_new_writer()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_writer)


class CheckpointError(Exception):
    """A file that is not a whole checkpoint, or one of another model."""


@dataclass(frozen=True)
class Written:
    """What came of one save; `remedy` says what a full disk made necessary."""

    step: int
    path: Path
    remedy: str = ""


class Checkpoints:
    """The newest checkpoints of one model, named by step, and a copy of the best."""

    def __init__(self, folder: Path, keep: int = KEEP) -> None:
        self.folder, self.keep = folder, keep

    def save_soon(self, step: int, state: dict[str, Any], *, best: bool = False) -> Future[Written]:
        """Copy the tensors now, write them in the background."""
        return _writer.submit(self.save, step, snapshot(state), best=best)

    def save(self, step: int, state: dict[str, Any], *, best: bool = False) -> Written:
        """Write atomically and drop all but the newest; raises OSError, leaving the old ones.

        A full disk first costs the older checkpoints, then the time to compress.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / f"step-{step:09d}.zip"
        remedy = self._write(path, state)
        for old in self.paths()[self.keep :]:
            old.unlink(missing_ok=True)
        if best:
            _link(path, self.folder / BEST)
        return Written(step, path, remedy)

    def _write(self, path: Path, state: dict[str, Any]) -> str:
        try:
            write_atomically(path, pack(state))
            return ""
        except OSError as error:
            if error.errno not in FULL:
                raise
        for old in self.paths()[1:]:
            old.unlink(missing_ok=True)
        try:
            write_atomically(path, pack(state))
            return "the disk is full: older checkpoints deleted"
        except OSError as error:
            if error.errno not in FULL:
                raise
        write_atomically(path, pack(state, compress=True))
        return "the disk is full: older checkpoints deleted, the new one compressed"

    def load_newest(self) -> dict[str, Any] | None:
        """The newest whole checkpoint; a damaged one is set aside and the one before it is used."""
        for path in self.paths():
            try:
                return load(path)
            except CheckpointError:
                path.replace(path.with_suffix(".damaged"))
        return None

    def paths(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("step-*.zip"), reverse=True)


def load(path: Path) -> dict[str, Any]:
    """Read one checkpoint; nothing in it is executed. Raises CheckpointError if it is damaged."""
    try:
        return unpack(path.read_bytes())
    except (Damaged, OSError) as error:
        raise CheckpointError(f"{path.name}: {error}") from error


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Temporary file, fsync, replace: a reader sees the old file or the new one."""
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _link(path: Path, name: Path) -> None:
    temporary = name.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # not every file system has links
        shutil.copyfile(path, temporary)
    os.replace(temporary, name)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
