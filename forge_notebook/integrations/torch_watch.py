"""``forge.watch_torch``: norms, learning rate and speed of any torch training, sampled."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from forge_notebook.core.errors import ForgeError
from forge_notebook.recording import Session


class ShardedParameters(ForgeError, TypeError):
    """A norm of sharded parameters is a collective call that every rank would have to make."""


class TorchWatch:
    """Hooks on one optimizer; made by ``watch_torch``."""

    def __init__(
        self, session: Session, parameters: list[Any], optimizer: Any, every: int, start: int,
        batch_size: int | None, model: int,
    ) -> None:  # fmt: skip
        self.step = start
        self._session = session
        self._parameters = parameters
        self._optimizer = optimizer
        self._every = every
        self._batch_size = batch_size
        self._model = model
        self._last: tuple[float, int] | None = None
        self._hook = optimizer.register_step_pre_hook(self._before_step)

    def close(self) -> None:
        """Take the hooks off again."""
        self._hook.remove()

    def __enter__(self) -> TorchWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Before the step: the gradients are those that it is about to use, clipped where you clip.
    def _before_step(self, *_: Any) -> None:
        self.step += 1
        if (self.step - 1) % self._every:
            return
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        row = {"weight_norm": total_norm(self._parameters), **self._rates(), **self._speed()}
        if gradients:
            row["grad_norm"] = total_norm(gradients)
        self._session.log(self.step, model=self._model, **row)

    def _rates(self) -> dict[str, Any]:
        groups = [group["lr"] for group in self._optimizer.param_groups]
        if len(groups) == 1:
            return {"lr": groups[0]}
        return {f"lr/{index}": rate for index, rate in enumerate(groups)}

    def _speed(self) -> dict[str, float]:
        now = time.monotonic()
        last, self._last = self._last, (now, self.step)
        if last is None or now <= last[0]:
            return {}
        rate = (self.step - last[1]) / (now - last[0])
        speed = {"steps_per_s": rate}
        if self._batch_size is not None:
            speed["samples_per_s"] = rate * self._batch_size
        return speed


def total_norm(tensors: Iterable[Any]) -> Any:
    """The Euclidean norm of all of them together, a tensor that stays on the first one's device."""
    torch = sys.modules["torch"]  # whoever has a tensor has loaded it
    by_device: dict[Any, list[Any]] = {}
    for tensor in tensors:
        local = tensor.detach()
        if local.is_sparse:
            local = local.coalesce().values()
        by_device.setdefault((local.device, local.dtype), []).append(local)
    parts = [norm for group in by_device.values() for norm in torch._foreach_norm(group)]
    first = parts[0].device
    wide = torch.float64 if first.type == "cpu" else torch.float32  # MPS has no float64
    return torch.stack([p.to(first, wide, non_blocking=True) for p in parts]).norm()


def watch_torch(
    model: Any,
    optimizer: Any,
    *,
    session: Session,
    every: int = 10,
    start: int = 0,
    batch_size: int | None = None,
    index: int = 0,
) -> TorchWatch:
    """Record gradient norm, weight norm, learning rate and speed at each ``every``-th step.

    Parameters
    ----------
    model
        A ``torch.nn.Module``; the norms are over all its parameters together, the gradients' as
        the optimizer is about to use them, so after clipping.
    optimizer
        Its optimizer. Steps are counted there from 1: log your own metrics in the same count.
    session
        Where to record.
    every
        Steps between two samples.
    start
        Steps already done, for a run resumed from a checkpoint.
    batch_size
        Samples of each step; adds ``samples_per_s``.
    index
        Which of the session's models it is, from 0.

    Nothing waits for the device: norms are computed there and read later, as ``log`` does. Speed
    is steps between two samples by wall time. Returns a handle with ``close()``, also a context
    manager. Raises ShardedParameters for FSDP2 and other DTensor parameters, and ValueError where
    ``every`` is not positive or the model has no parameters.

    >>> import torch, forge_notebook as forge
    >>> net = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> with forge.session("watched") as session:
    ...     watched = forge.watch_torch(net, optimizer, session=session)
    ...     net(torch.ones(4, 2)).mean().backward()
    ...     _ = optimizer.step()
    >>> sorted(forge.load(session.id).metric_names)
    ['grad_norm', 'lr', 'weight_norm']
    """
    if every < 1:
        raise ValueError(f"every={every}: give a positive number of steps")
    parameters = list(model.parameters())
    if not parameters:
        raise ValueError(f"{type(model).__name__} has no parameters to watch")
    if any(hasattr(p, "device_mesh") for p in parameters):
        raise ShardedParameters(
            "watch_torch() would need a collective call for sharded parameters; "
            "log the norm that clip_grad_norm_ returns on every rank instead"
        )
    return TorchWatch(session, parameters, optimizer, every, start, batch_size, index)
