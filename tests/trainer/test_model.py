from dataclasses import replace

import pytest
import torch

from forge_notebook.trainer.bank import BankMemory
from forge_notebook.trainer.config import TrainingConfig
from forge_notebook.trainer.data import load_data
from forge_notebook.trainer.loader import LoaderData
from forge_notebook.trainer.memory import LinearMemory
from forge_notebook.trainer.metrics import cross_entropy
from forge_notebook.trainer.model import AdaptiveCore, Cognate, Shape, initialize, rotate
from forge_notebook.trainer.optim import Optimizers
from forge_notebook.trainer.presets import build_model, model_name, parameter_count

TEXT = TrainingConfig(batch_size=4)
GROK = TrainingConfig.demo("grok")


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (TEXT, 544_141),
        (GROK, 45_312),
        (replace(GROK, preset="tiny"), 49_024),
        (replace(TEXT, tied=True), 544_141 - 256 * 128),
        (replace(TEXT, halting=False), 543_756),
        (replace(TEXT, memory=False, halting=False), 476_416),
        (replace(TEXT, preset="cognate-25m"), 9_261_650),
        (replace(TEXT, preset="cognate-25m", memory=False), 9_074_593),
    ],
)
def test_parameters_are_counted_and_every_one_gets_a_gradient(
    config: TrainingConfig, count: int
) -> None:
    data = load_data(config)
    model = build_model(config, data, 0)
    assert parameter_count(model) == count
    optimizers = Optimizers(model, config)
    for position in range(2):  # the first moves the core's branches, which start at zero
        optimizers.zero_grad()
        x, y = data.batch(0, position, config.batch_size)
        output = model(x)
        torch.autograd.backward(cross_entropy(output.logits, y) + output.extra_loss)
        if position == 0:
            optimizers.step(0.003)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    optimized = sum(
        p.numel() for part in optimizers.parts for g in part.param_groups for p in g["params"]
    )
    assert optimized == count


def test_published_shape_has_its_parameters_with_the_published_vocabulary() -> None:
    batch = [(torch.zeros(1, 16, dtype=torch.long), torch.zeros(1, 16, dtype=torch.long))]
    config = replace(TEXT, preset="cognate-25m")
    count = parameter_count(build_model(config, LoaderData(batch, batch, classes=32_000), 0))
    assert count == 22_975_058


def bank(slots: int = 8) -> BankMemory:
    model = Cognate(
        Shape(256, 16, width=16, heads=2, hidden=24, blocks=1, memory=True, slots=slots, rope=True)
    )
    initialize(model, 1)
    assert isinstance(model.memory, BankMemory)
    return model.memory


def test_bank_is_written_by_training_alone_and_the_oldest_give_way() -> None:
    memory = bank(slots=8)
    x = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        memory(x)
    assert int(memory.written) == 0
    memory(x)
    assert int(memory.written) == 6
    first = memory.states.clone()
    memory(x + 1)
    assert int(memory.written) == 12
    assert torch.equal(memory.states[4:6], first[4:6])
    assert not torch.equal(memory.states[:4], first[:4])


def test_bank_recalls_what_it_has_seen() -> None:
    memory = bank(slots=64)
    x = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(0))
    empty, surprise, _ = memory(x)
    assert not empty.any()
    assert surprise == 1
    read, again, written = memory(x)
    assert read.any()
    assert again < surprise
    assert 0 < written < 1


def test_bank_keeps_the_most_surprising_and_novel() -> None:
    memory = bank(slots=64)
    old = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(0))
    for _ in range(4):
        memory(old)
    new = torch.randn(4, 2, 16, generator=torch.Generator().manual_seed(1))
    before = int(memory.written)
    seen = memory.norm(memory.states[:8].unflatten(0, (4, 2))).detach()
    memory(torch.cat([seen, new], dim=1))
    kept = memory.states[before : before + 8]
    expected = memory.norm(new).flatten(0, 1)
    assert torch.allclose(kept.sort(0).values, expected.sort(0).values, atol=1e-5)


def test_rotary_positions_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).unbind()
    turned_q, turned_k = (rotate(v.expand(1, 1, 12, 8))[0, 0] for v in (q, k))
    products = turned_q @ turned_k.T
    for distance in range(11):
        diagonal = products.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5)


def small(halting: float = 0.95) -> Cognate:
    shape = Shape(256, 16, width=16, heads=2, hidden=24, blocks=1, core_steps=3, memory=True)
    model = Cognate(replace(shape, halting=halting))
    initialize(model, 1)
    return model


def test_no_position_sees_its_future() -> None:
    model = small()
    tokens = torch.randint(0, 256, (1, 16), generator=torch.Generator().manual_seed(0))
    before = model(tokens).logits
    for changed in range(1, 16):
        other = tokens.clone()
        other[0, changed] = (other[0, changed] + 1) % 256
        after = model(other).logits
        assert torch.equal(before[:, :changed], after[:, :changed])
        assert not torch.equal(before[:, changed:], after[:, changed:])


def test_memory_carries_the_first_chunk_to_the_last() -> None:
    memory = small().memory
    assert isinstance(memory, LinearMemory)
    x = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 0] += 1
    read, surprise, written = memory(x)
    assert not read[:, :4].any()  # nothing is written yet
    assert not torch.equal(read[:, -4:], memory(other)[0][:, -4:])
    assert 0 < surprise <= 1
    assert 0 < written < 1


def test_text_seen_before_surprises_less_and_is_written_less() -> None:
    memory = small().memory
    assert isinstance(memory, LinearMemory)
    memory.gates.weight.data.zero_()  # write strength 0.5 everywhere: the rest is the content
    x = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
    _, new_surprise, new_written = memory(torch.cat([x, torch.randn(1, 12, 16)], 1))
    _, old_surprise, old_written = memory(torch.cat([x] * 4, 1))
    assert old_surprise < new_surprise
    assert old_written < new_written


def test_reading_the_memory_changes_the_prediction() -> None:
    model = small()
    tokens = torch.arange(16)[None]
    before = model(tokens).logits
    assert isinstance(model.memory, LinearMemory)
    model.memory.out.weight.data.zero_()
    assert not torch.allclose(before, model(tokens).logits, atol=1e-4)


def core(halting: float, bias: float) -> AdaptiveCore:
    found = small(halting=halting).core
    assert found is not None
    found.halt.bias.data.fill_(bias)
    return found


@pytest.mark.parametrize("bias", [-50.0, -1.0, 0.0, 3.0, 50.0])
def test_halting_weights_sum_to_one_and_steps_stay_in_bounds(bias: float) -> None:
    adaptive = core(0.95, bias)
    adaptive.block = torch.nn.Identity()  # type: ignore[assignment]
    adaptive.step_embedding.data.zero_()
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    total, expected = adaptive(x)
    assert torch.allclose(total, x, atol=1e-6)  # sum of w_t x with the weights' sum 1
    assert expected.min() >= 1
    assert expected.max() <= 3
    assert bias != 50.0 or bool((expected == 1).all())
    assert bias != -50.0 or bool((expected == 3).all())


def test_higher_threshold_ponders_longer() -> None:
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    low, high = core(0.9, 2.5)(x)[1], core(0.99, 2.5)(x)[1]  # sigmoid(2.5) = 0.92
    assert bool((low == 1).all())
    assert bool((high > 1).all())


def test_ponder_cost_pulls_towards_fewer_steps() -> None:
    model = small()
    extra_loss = model(torch.arange(16)[None]).extra_loss
    assert isinstance(extra_loss, torch.Tensor)
    torch.autograd.backward(extra_loss)
    assert model.core is not None
    assert model.core.halt.bias.grad is not None
    assert float(model.core.halt.bias.grad) < 0  # descent raises the probability to halt


def test_models_of_a_session_differ_on_purpose() -> None:
    data = load_data(TEXT)
    models = [build_model(TEXT, data, index) for index in range(3)]
    assert [model_name(TEXT, index) for index in range(4)] == [
        "reasoning",
        "memory",
        "adaptive",
        "model-4",
    ]
    assert len({(m.shape.halting, m.shape.surprise) for m in models if isinstance(m, Cognate)}) == 3
    first, second = (torch.cat([p.flatten() for p in m.parameters()]) for m in models[:2])
    assert not torch.equal(first, second)


def test_building_a_model_leaves_the_global_random_numbers_alone() -> None:
    data = load_data(TEXT)
    state = torch.get_rng_state()
    build_model(TEXT, data, 0)
    assert torch.equal(state, torch.get_rng_state())
