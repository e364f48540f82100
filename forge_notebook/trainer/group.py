"""The processes that train one model together, by torch's DDP or FSDP2, agreed in every step.

Each process takes its share of the same global batch and sees the same mean loss and gradient, so
all of them decide alike. The first one alone records, writes checkpoints and hears the viewers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from forge_notebook.trainer.bank import BankMemory
from forge_notebook.trainer.config import ConfigError, TrainingConfig
from forge_notebook.trainer.hooks import Command, SessionLike
from forge_notebook.trainer.shards import shard

T = TypeVar("T")


class Group:
    """One process by itself; `Joined` is several."""

    rank, size = 0, 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """What to call for a forward whose backward averages the gradients."""
        return model

    def share(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """This process's part of the global batch."""
        return batch

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes."""
        return value

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes."""
        return make()


class Joined(Group):
    """Several processes, after `torch.distributed.init_process_group`."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def wrap(self, model: nn.Module) -> nn.Module:
        """DistributedDataParallel. A memory bank's weights are without use while it is empty."""
        bank = any(isinstance(module, BankMemory) for module in model.modules())
        return nn.parallel.DistributedDataParallel(model, find_unused_parameters=bank)

    def share(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Every `size`-th example."""
        if len(batch[0]) % self.size:
            raise ConfigError(
                f"batch_size={len(batch[0])} is not possible with {self.size} processes: "
                f"give a multiple of {self.size}"
            )
        x, y = (part[self.rank :: self.size] for part in batch)
        return x, y

    def mean(self, value: Tensor) -> Tensor:
        """All-reduced."""
        total = value.detach().clone().float()
        dist.all_reduce(total)
        return total / self.size

    def from_first(self, make: Callable[[], T]) -> T:
        """Made by the first, sent to the others."""
        held: list[Any] = [make() if self.rank == 0 else None]
        dist.broadcast_object_list(held)
        made: T = held[0]
        return made


class Sharded(Joined):
    """Several processes of which each keeps its share of the model (FSDP2), not a copy."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model itself, spread over the processes."""
        return shard(model, self.size)


KINDS: dict[str, type[Joined]] = {"ddp": Joined, "fsdp": Sharded}


def kind_of(distributed: str, config: TrainingConfig, processes: int) -> type[Joined]:
    """What joins the processes. Raises ConfigError for another name, or what it cannot train."""
    if distributed not in KINDS:
        raise ConfigError(
            f"distributed={distributed!r} is not possible: "
            f"give one of {', '.join(map(repr, KINDS))}"
        )
    if distributed == "fsdp" and config.compile:
        raise ConfigError("compile=True is not possible with distributed='fsdp': use 'ddp'")
    if config.batch_size is None or config.batch_size % processes:
        raise ConfigError(
            f"batch_size={config.batch_size} is not possible with {processes} processes: "
            f"give a multiple of {processes}"
        )
    return KINDS[distributed]


class Heard:
    """A command as the other processes get it; the first one acknowledges it."""

    def __init__(self, name: str, args: dict[str, Any]) -> None:
        self.name, self.args = name, args

    def ack(self, ok: bool = True, message: str = "") -> None:
        """Nothing: the first process does."""


class GroupSession:
    """The session of the first process; on the others everything but the commands is dropped."""

    def __init__(self, session: SessionLike | None, group: Joined, folder: Path) -> None:
        self._session, self._group, self.folder = session, group, folder
        self.id = self.name = folder.name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _nothing if self._session is None else getattr(self._session, name)

    def next_command(self) -> Command | None:
        """The same command on every process, at the same step."""
        command = None if self._session is None else self._session.next_command()
        waiting = torch.tensor(float(command is not None))
        dist.all_reduce(waiting)
        if not waiting:
            return None
        name, args = self._group.from_first(
            lambda: ("", {}) if command is None else (command.name, command.args)
        )
        return command or Heard(name, args)


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    return None
