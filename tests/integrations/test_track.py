"""Any loop: forge.track and forge.watch_torch."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import pytest
import torch

import forge_notebook as forge
from forge_notebook.core.errors import ForgeError
from forge_notebook.integrations.torch_watch import ShardedParameters, total_norm


def test_track_gives_progress_steps_and_throughput() -> None:
    began = time.monotonic()
    run = forge.track(range(30), "counted")
    for item in run:
        time.sleep(0.01)
        run.log(loss=float(item))
    seconds = time.monotonic() - began
    metrics = run.session.metrics()
    assert run.session.status == "completed"
    assert metrics is not None
    assert (metrics["currentStep"], metrics["totalSteps"]) == (30, 30)
    assert metrics["overallProgress"] == 100.0
    frame = forge.load(run.session.id).to_pandas()
    assert frame.step.dropna().max() == 30
    assert frame.loss.dropna().tolist() == [float(i) for i in range(30)]
    speed = frame.items_per_s.dropna()
    assert 2 <= len(speed) <= 1 + 10 * seconds
    assert speed.between(1, 100).all()


def test_track_of_nothing_and_of_an_unknown_length() -> None:
    assert list(forge.track([], "empty")) == []
    run = forge.track((i for i in range(3)), "generator")
    assert list(run) == [0, 1, 2]
    assert run.session.metrics()["totalSteps"] is None  # type: ignore[index]
    with pytest.raises(TypeError, match="total=n"):
        len(run)


def test_leaving_the_loop_is_stopped_and_an_exception_inside_with_is_failed() -> None:
    run = forge.track(range(5))
    for _ in run:
        break
    assert run.session.status == "stopped"
    failing = forge.track(range(5))
    with pytest.raises(ZeroDivisionError), failing:
        _ = [1 / item for item in failing]
    assert failing.session.status == "failed"
    assert "ZeroDivisionError" in str(forge.load(failing.session.id).status["error"])
    with forge.track(range(2)) as good:
        assert list(good) == [0, 1]
    assert good.session.status == "completed"
    with forge.track(range(2)) as left:
        for _ in left:
            break
    assert left.session.status == "stopped"
    with pytest.raises(ForgeError, match="recorded already"):
        list(left)


def test_a_viewer_stops_the_loop_between_two_items() -> None:
    run = forge.track(iter(int, 1), "endless")
    for seen, _ in enumerate(run, 1):
        if seen == 3:
            run.session.send_command("stop")
        time.sleep(0.005)
        assert seen < 400
    assert run.session.status == "stopped"


def test_a_session_of_the_caller_stays_open() -> None:
    with forge.session("mine") as session:
        list(forge.track(range(3), session=session))
        assert session.status == "running"


def trained(every: int, steps: int, **options: Any) -> Any:
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    norms = []
    with forge.session("net") as session:
        with forge.watch_torch(net, optimizer, session=session, every=every, **options):
            for _ in range(steps):
                optimizer.zero_grad()
                net(torch.ones(4, 3)).square().mean().backward()
                norms.append(torch.nn.utils.clip_grad_norm_(net.parameters(), math.inf).item())
                optimizer.step()
        optimizer.step()  # the hooks are off
    return forge.load(session.id).to_pandas(), norms


def test_watch_torch_samples_the_norms_that_the_step_uses() -> None:
    frame, norms = trained(every=4, steps=9, batch_size=8)
    assert frame.step.tolist() == [1, 5, 9]
    assert frame.grad_norm.tolist() == pytest.approx([norms[0], norms[4], norms[8]])
    assert frame.lr.tolist() == [0.5] * 3
    assert frame.samples_per_s[1] == pytest.approx(8 * frame.steps_per_s[1])


def test_watch_torch_counts_on_after_a_resume_and_changes_no_weight() -> None:
    frame, _ = trained(every=1, steps=2, start=100)
    assert frame.step.tolist() == [101, 102]

    def weights(watched: bool) -> torch.Tensor:
        torch.manual_seed(1)
        net = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(net.parameters())
        with forge.session("same") as session:
            if watched:
                forge.watch_torch(net, optimizer, session=session, every=1)
            for _ in range(5):
                net(torch.ones(4, 3)).square().mean().backward()
                optimizer.step()
        return net.weight.detach()

    assert torch.equal(weights(True), weights(False))


def test_watch_torch_never_reads_a_value_on_the_training_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reading is what synchronizes: on the meta device there is nothing to read."""
    here = threading.get_ident()
    session = forge.session("meta")
    read: list[bool] = []
    logged: list[dict[str, Any]] = []
    monkeypatch.setattr(session, "log", lambda *_a, **row: logged.append(row))
    monkeypatch.setattr(torch.Tensor, "item", lambda _t: read.append(threading.get_ident() == here))
    net = torch.nn.Linear(3, 2, device="meta")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    forge.watch_torch(net, optimizer, session=session, every=1)
    net(torch.ones(4, 3, device="meta")).sum().backward()
    optimizer.step()
    session.finish()
    assert read == []
    assert logged[0]["grad_norm"].device.type == "meta"


def test_watch_torch_says_what_it_cannot_do() -> None:
    class Sharded(torch.nn.Module):
        def parameters(self, recurse: bool = True) -> Any:
            parameter = torch.nn.Parameter(torch.ones(1))
            parameter.device_mesh = object()  # type: ignore[attr-defined]
            yield parameter

    session = forge.session("refused")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(ShardedParameters, match="collective"):
        forge.watch_torch(Sharded(), optimizer, session=session)
    with pytest.raises(ValueError, match="no parameters"):
        forge.watch_torch(torch.nn.ReLU(), optimizer, session=session)
    with pytest.raises(ValueError, match="every"):
        forge.watch_torch(torch.nn.Linear(1, 1), optimizer, session=session, every=0)
    session.finish()


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_total_norm_of_mixed_types_and_sparse_gradients() -> None:
    sparse = torch.tensor([3.0, 0.0]).to_sparse()
    mixed = [torch.tensor([4.0], dtype=torch.bfloat16), sparse]
    assert total_norm(mixed).item() == pytest.approx(5.0)
