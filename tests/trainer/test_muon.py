import pytest
import torch

from forge_notebook.trainer.muon import Muon

SHAPES = [(24, 8), (8, 24), (8, 8), (24, 8), (8, 8), (40, 8)]


def parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_muon_is_that_of_torch_bit_for_bit(scale: float) -> None:
    ours, theirs = parameters(), parameters()
    first = Muon(ours, lr=0.02, weight_decay=0.1)
    second = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            b.grad = scale * torch.randn(a.shape, generator=generator)
            a.grad = b.grad.clone()
        first.step()
        second.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    second.load_state_dict(first.state_dict())
