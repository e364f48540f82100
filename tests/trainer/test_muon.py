import pytest
import torch

from forge_notebook.trainer import muon
from forge_notebook.trainer.muon import Muon, orthogonalize

SHAPES = [(24, 8), (8, 24), (8, 8), (24, 8), (8, 8), (40, 8)]


def parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_muon_is_that_of_torch_bit_for_bit(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "working_dtype", lambda _device: torch.bfloat16)
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


def test_in_32_bits_it_is_the_same_to_what_bfloat16_rounds_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grads = torch.randn((3, 24, 8), generator=torch.Generator().manual_seed(2))
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(muon, "working_dtype", lambda _device, dtype=dtype: dtype)
        found[dtype] = orthogonalize(grads, (3.4445, -4.775, 2.0315), 5, 1e-7).float()
    assert torch.allclose(found[torch.bfloat16], found[torch.float32], atol=0.03)
    assert not torch.equal(found[torch.bfloat16], found[torch.float32])
