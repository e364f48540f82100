"""Other recorders, measured beside ours where they are installed and asked for."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

METRICS = {"loss": 1.5, "val": 1.6, "lr": 3e-4, "grad_norm": 0.7, "speed": 1e4, "epoch": 0.25}
Log = Callable[[int], None]


def loggers(names: Sequence[str], folder: Path) -> Iterator[tuple[str, Log]]:
    """``(name, log(step))`` of each peer, local and offline. Raises SystemExit naming one that is
    not known or not installed: a row that is missing must not look like one that was measured."""
    for name in names:
        if name not in _PEERS:
            raise SystemExit(f"unknown peer {name!r}; there are {', '.join(_PEERS)}")
        try:
            log, finish = _PEERS[name](folder / name)
        except ImportError as error:
            raise SystemExit(f"--peers {name}: {error}; install it in this environment") from None
        try:
            yield name, log
        finally:
            finish()


def _trackio(folder: Path) -> tuple[Log, Callable[[], Any]]:
    os.environ["TRACKIO_DIR"] = str(folder)
    trackio = importlib.import_module("trackio")
    trackio.init(project="bench", name="run")
    return (lambda step: trackio.log(METRICS, step=step)), trackio.finish


def _wandb(folder: Path) -> tuple[Log, Callable[[], Any]]:
    folder.mkdir()
    wandb = importlib.import_module("wandb")
    settings = wandb.Settings(silent=True, x_disable_stats=True)
    run = wandb.init(project="bench", mode="offline", dir=str(folder), settings=settings)
    return (lambda step: run.log(METRICS)), run.finish


def _tensorboard(folder: Path) -> tuple[Log, Callable[[], Any]]:
    module = importlib.import_module("torch.utils.tensorboard")
    writer = module.SummaryWriter(str(folder))

    def log(step: int) -> None:
        for name, value in METRICS.items():
            writer.add_scalar(name, value, step)

    return log, writer.close


_PEERS: dict[str, Callable[[Path], tuple[Log, Callable[[], Any]]]] = {
    "trackio": _trackio,
    "wandb": _wandb,
    "tensorboard": _tensorboard,
}
