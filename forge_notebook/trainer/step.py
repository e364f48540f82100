"""Forward and backward of one batch: whole, or in parts when it does not fit into memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from forge_notebook.trainer.device import Forward
from forge_notebook.trainer.metrics import cross_entropy
from forge_notebook.trainer.model import Output
from forge_notebook.trainer.run import ModelRun


def forward_backward(run: ModelRun, x: Tensor, y: Tensor) -> tuple[Output, Tensor]:
    """Set the gradients of the mean over the batch; returns its output and cross-entropy.

    What runs out of memory is tried again in twice as many parts of the same batch, then with
    activations computed twice: the gradient, and so the trajectory, stays (2e-7 relative). A CPU
    out of memory is a plain RuntimeError in torch: no other type tells it apart, so every
    RuntimeError gets the chance, and one that parts do not cure is raised as it was.
    """
    problem = ""
    for _ in range(run.config.max_retries + 2):
        try:
            output, loss = _in_parts(run.forward, x, y, run.parts)
        except (MemoryError, RuntimeError) as error:
            run.optimizers.zero_grad()
            problem = problem or f"{type(error).__name__}: {error}".splitlines()[0]
            if not _relieve(run, len(x)):
                raise
        else:
            if problem:
                how = f"the same batch in {run.parts} parts" + (
                    ", activations computed twice" if getattr(run.model, "thrifty", False) else ""
                )
                run.event("recovery", kind="memory", message=f"{problem}; {how}", parts=run.parts)
            return output, run.group.mean(loss)
        if torch.cuda.is_available():  # outside `except`: the frames of the failure are gone
            torch.cuda.empty_cache()
    raise AssertionError("unreachable: _relieve gives up before the tries are used")


def _relieve(run: ModelRun, examples: int) -> bool:
    """Make the next try smaller; False where that is not possible or not wanted."""
    if not run.config.enable_recovery or run.group.size > 1:  # the others would wait for ever
        return False
    if 2 * run.parts <= min(examples, 2**run.config.max_retries):
        run.parts *= 2
        return True
    if getattr(run.model, "thrifty", None) is False:
        run.model.thrifty = True  # type: ignore[assignment]
        return True
    return False


def _in_parts(model: Forward, x: Tensor, y: Tensor, parts: int) -> tuple[Output, Tensor]:
    if parts == 1:
        output = model(x)
        loss = cross_entropy(output.logits, y)
        torch.autograd.backward(loss + output.extra_loss)
        return output, loss.detach()
    outputs, shares, total = [], [], torch.zeros(())
    size = math.ceil(len(x) / parts)
    for part_x, part_y in zip(torch.split(x, size), torch.split(y, size), strict=True):
        share = len(part_x) / len(x)
        output = model(part_x)
        loss = cross_entropy(output.logits, part_y)
        torch.autograd.backward((loss + output.extra_loss) * share)
        total = total + share * loss.detach()
        outputs.append(Output(output.logits.detach(), 0.0, output.observed))
        shares.append(share)
    logits = torch.cat([output.logits for output in outputs])
    observed = {
        name: sum((s * o.observed[name] for s, o in zip(shares, outputs, strict=True)), total * 0)
        for name in outputs[0].observed
    }
    return Output(logits, 0.0, observed), total
