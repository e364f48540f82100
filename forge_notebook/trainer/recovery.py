"""The ways back: a batch that cannot be used, and a loss that is lost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from forge_notebook.trainer.guard import SKIPS
from forge_notebook.trainer.run import ModelRun


class TrainingDiverged(RuntimeError):
    """The loss is lost and recovery is off or used up."""


class BadBatch(Exception):
    """The data gave something that cannot be trained on."""


def next_batch(run: ModelRun) -> tuple[Tensor, Tensor] | None:
    """The next training batch, or None for one that is skipped.

    Whatever the data raises is the data's: the type of the exception does not matter, the place
    does. Several in a row are no accident: then back to the last checkpoint, `max_retries` times.
    """
    try:
        batch = run.batch()
        _check(batch)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        if not run.config.enable_recovery:
            raise
    else:
        run.bad_batches = 0
        run.position += 1
        return batch
    run.event("recovery", kind="bad_batch", message=f"batch {run.position} skipped: {problem}")
    run.position += 1
    run.bad_batches += 1
    if run.bad_batches >= SKIPS:
        roll_back(run, f"{SKIPS} bad batches in a row, the last: {problem}", slower=False)
    return None


def _check(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    if not len(x) or len(x) != len(y):
        raise BadBatch(f"{len(x)} inputs and {len(y)} targets")
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        raise BadBatch("inputs that are not finite")


def roll_back(run: ModelRun, problem: str, *, slower: bool = True) -> None:
    """Return to the newest whole checkpoint; the batches since are not taken again.

    `slower` halves the learning rate. A second failure after the same checkpoint goes back to the
    one before it, if there is one.
    """
    where = f"model {run.name!r}, step {run.step}: {problem}"
    if not run.config.enable_recovery:
        raise TrainingDiverged(f"{where} (enable_recovery is off)")
    if run.retries >= run.config.max_retries:
        raise TrainingDiverged(f"{where} (after {run.retries} rollbacks, max_retries)")
    state = run.group.from_first(lambda: _way_back(run))
    failed_at = run.step
    if state is None:  # none was written, or all are damaged: the seed gives the first weights
        run.start_over()
        run.rolled_back_to = None
    else:
        run.restore(state)
        run.rolled_back_to = next(iter(run.checkpoints.paths()), None)
    run.retries += 1
    run.bad_batches = 0
    if slower:
        run.learning_rate /= 2
    run.event(
        "recovery",
        kind="rollback",
        message=f"{problem}; back to step {run.step}, learning rate {run.learning_rate:g}",
        failedStep=failed_at,
        retry=run.retries,
        learningRate=run.learning_rate,
    )


def _way_back(run: ModelRun) -> dict[str, Any] | None:
    run.collect(wait=True)
    paths = run.checkpoints.paths()
    if run.rolled_back_to is not None and len(paths) > 1 and paths[0] == run.rolled_back_to:
        paths[0].unlink()
    return run.checkpoints.load_newest()
