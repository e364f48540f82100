"""The training loop. Read from top to bottom; everything else hangs on it by name."""

from __future__ import annotations

import math
import time
from collections.abc import Collection

import torch

from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.control import Control
from forge_notebook.trainer.data import Data
from forge_notebook.trainer.group import Group
from forge_notebook.trainer.hooks import CallbackHook, SessionLike
from forge_notebook.trainer.optim import CLIP
from forge_notebook.trainer.presets import parameter_count
from forge_notebook.trainer.recovery import next_batch, roll_back
from forge_notebook.trainer.run import ModelRun
from forge_notebook.trainer.shards import whole
from forge_notebook.trainer.step import forward_backward
from forge_notebook.trainer.threads import Threads


def train_session(
    config: TrainingConfig,
    data: Data,
    session: SessionLike,
    hook: CallbackHook,
    control: Control,
    models: list[torch.nn.Module],
    completed: Collection[int] | None = None,
    group: Group | None = None,
) -> None:
    """Train the models one after the other; each finished one is appended to `models`.

    `completed` makes this the continuation of a session: those models are read back only, the
    others go on from their newest checkpoints.
    """
    torch.set_flush_denormal(True)  # before any parallel operation: its workers inherit it
    session.start()
    for index in range(config.model_count):
        again, done = completed is not None, completed is not None and index in completed
        model = train_one(
            config, data, session, hook, control, index, again=again, done=done, group=group
        )
        models.append(model)


def train_one(
    config: TrainingConfig,
    data: Data,
    session: SessionLike,
    hook: CallbackHook,
    control: Control,
    index: int,
    *,
    again: bool = False,
    done: bool = False,
    group: Group | None = None,
) -> torch.nn.Module:
    """Train one model of the session; `again` goes on from its newest checkpoint, if there is one.

    A model that is `done` is read back only.
    """
    run = ModelRun(config, data, session, hook, index, group or Group())
    if again:
        run.resume()
    if not done:
        threads = Threads(run.model, data, config)  # for each model: the neighbours change
        session.model_started(
            index,
            name=run.name,
            params=parameter_count(run.model),
            total_steps=run.total_steps,
        )
        train_model(run, control, threads)
        session.model_completed(index)
    return run.model


def train_model(run: ModelRun, control: Control, threads: Threads) -> None:
    """Take one model from its first step, or that of its checkpoint, to its last."""
    parameters = list(run.model.parameters())
    if not run.resumed:
        run.evaluate()
        run.save()  # there is always a way back
    while run.step < run.total_steps:
        control.obey(run)
        run.collect()
        began = time.perf_counter()
        batch = next_batch(run)
        if batch is None:
            continue
        x, y = batch
        output, loss = forward_backward(run, x, y)
        norm = whole(torch.nn.utils.clip_grad_norm_(parameters, CLIP, foreach=True))

        # On a CPU reading two numbers costs 0.4 us; a GPU would wait here for its queue.
        loss_now, run.grad_norm, lr = loss.item(), norm.item(), run.lr
        healthy = math.isfinite(loss_now) and math.isfinite(run.grad_norm)
        if healthy:
            run.optimizers.step(lr)
        run.optimizers.zero_grad()
        run.step += 1
        seconds = time.perf_counter() - began
        run.meter.add(loss_now, x.shape[0] * run.group.size * run.data.tokens_per_example, seconds)

        if not healthy:
            run.session.log(run.step, model=run.index, loss=loss_now, grad_norm=run.grad_norm)
            run.event("alert", kind="skipped_step", message="loss or gradient not finite")
        if run.due(run.config.eval_interval):
            run.evaluate()
        if run.step == 1 or run.due(run.config.progress_update_interval):
            run.report(output, y, lr)
        if problem := run.guard.check(loss_now, run.grad_norm):
            roll_back(run, problem)
        elif run.due(run.config.checkpoint_interval):
            run.save()
        if change := threads.watch(seconds):
            run.event("recovery", kind="threads", message=change)
    run.collect(wait=True)
