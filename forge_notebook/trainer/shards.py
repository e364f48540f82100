"""Models whose parameters, gradients and optimizer states are spread over processes (FSDP2).

Every process keeps its shards, as torch's DTensors. What must be one number or one file is
gathered, so a checkpoint is the same file whoever wrote it, and any number of processes goes on
from it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

Plain = dict[str, Any]


def shard(model: nn.Module, size: int) -> nn.Module:
    """Spread a model's parameters over the `size` processes of the group, in place.

    A block is gathered for its own forward and backward only, and so is what belongs to no block:
    between two steps, and after an evaluation, there is nothing but shards.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(model.parameters()).device.type, (size,))
    for block in getattr(model, "blocks", ()):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    model.register_forward_pre_hook(_share_buffers)
    return model


def _share_buffers(model: nn.Module, _inputs: Any) -> None:
    """A memory bank: the first process's counts, as in DDP."""
    for buffer in model.buffers():
        dist.broadcast(buffer, 0)


def whole(value: Any) -> Any:
    """The value with every shard in it gathered; all processes must ask at the same time.

    Looked up by name: one process alone need not load torch's distributed tensors.
    """
    if isinstance(value, Tensor):
        gather = getattr(value, "full_tensor", None)
        return value if gather is None else gather()
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(item) for item in value)
    return value


def part(value: Tensor, like: Tensor) -> Tensor:
    """This process's shard of a whole tensor, on the device of `like` and spread as that is."""
    value = value.to(like.device)
    if not hasattr(like, "placements") or value.shape != like.shape:
        return value  # not spread; or a count of steps, which is whole everywhere
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]


def load_model(model: nn.Module, state: dict[str, Tensor]) -> None:
    """`load_state_dict` of whole tensors. Raises RuntimeError where they are another model's."""
    own = model.state_dict()
    model.load_state_dict({k: part(v, own[k]) if k in own else v for k, v in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: Plain) -> None:
    """`load_state_dict` of whole tensors. Raises ValueError where they are another model's."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        index: {
            name: part(value, parameters[index]) if isinstance(value, Tensor) else value
            for name, value in held.items()
        }
        for index, held in state["state"].items()
        if index < len(parameters)
    }
    optimizer.load_state_dict({**state, "state": moments})
