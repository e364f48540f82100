"""What a group makes of a model, in a group of one process."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

from forge_notebook.trainer.group import KINDS
from forge_notebook.trainer.metrics import cross_entropy
from forge_notebook.trainer.model import Cognate, Shape, initialize
from forge_notebook.trainer.shards import load_model, part, whole


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    dist.destroy_process_group()


def small() -> Cognate:
    shape = Shape(50, 16, 16, 2, 24, 2, core_steps=2, memory=True, slots=8, rope=True)
    with torch.device("meta"):
        model = Cognate(shape)
    initialize(model, 1)
    return model


def train(forward: torch.nn.Module, model: torch.nn.Module) -> list[float]:
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=0.01), []
    tokens = torch.arange(64).view(4, 16) % 50
    for _ in range(4):
        output = forward(tokens)
        loss = cross_entropy(output.logits, tokens)
        torch.autograd.backward(loss + output.extra_loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_memory_bank_that_is_empty_at_first_trains_as_without_a_group(
    kind: str, alone: None
) -> None:
    plain, model = small(), small()
    expected = train(plain, plain)
    assert train(KINDS[kind]().wrap(model), model) == pytest.approx(expected, rel=1e-5)
    assert expected[-1] < expected[0]


def test_shards_become_whole_and_whole_ones_shards(alone: None) -> None:
    plain, model = small(), small()
    KINDS["fsdp"]().wrap(model)
    assert hasattr(model.embedding, "placements")
    with torch.no_grad():
        plain.embedding.add_(1)
    load_model(model, plain.state_dict())
    found = whole({"state": [model.state_dict()]})["state"][0]
    assert all(torch.equal(found[name], value) for name, value in plain.state_dict().items())
    assert type(part(torch.tensor(3.0), model.embedding)) is torch.Tensor  # a count of steps
