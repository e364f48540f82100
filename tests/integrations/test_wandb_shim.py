"""Scripts written for W&B, unchanged but for the import."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import forge_notebook as forge
import forge_notebook.wandb as wandb
from forge_notebook.core.errors import ForgeError, UnknownSession


@pytest.fixture(autouse=True)
def _no_run_left() -> Iterator[None]:
    yield
    wandb.finish()


def frame(run: Any) -> Any:
    return forge.load(run.session.id).to_pandas()


def test_a_script_for_wandb_runs_unchanged() -> None:
    wandb.login()
    run = wandb.init(
        project="p", entity="e", name="n", tags=["t"], config=argparse.Namespace(lr=0.1)
    )
    wandb.define_metric("loss", summary="min")
    wandb.config.update({"width": 3})
    wandb.config.depth = 2
    for loss in (0.5, 0.25, math.nan, 0.75):
        wandb.log({"loss": torch.tensor(loss), "val": {"acc": 1 - loss}, "step": 1})
    wandb.alert("low", text="loss", level="WARN")
    assert (wandb.config["width"], wandb.config.lr, wandb.run) == (3, 0.1, run)
    assert wandb.summary["loss"] == 0.25
    wandb.finish()
    assert wandb.run is None
    history = forge.load(run.session.id)
    assert history.status["status"] == "completed"
    assert history.status["config"] == {"lr": 0.1, "wandb": {"tags": ["t"], "project": "p"}}
    table = history.to_pandas()
    assert table.step.tolist() == [0, 1, 2, 3]
    assert table["val.acc"].tolist()[:2] == [0.5, 0.75]
    assert table.logged_step.tolist() == [1] * 4
    named = {e["event"]: e["data"] for e in history.events}
    assert named["alert"] == {"kind": "warn", "message": "low: loss"}
    assert named["summary"]["loss"] == 0.25


def test_calls_of_one_step_share_a_row_and_no_row_is_dropped() -> None:
    with wandb.init() as run:
        run.log({"a": 1.0}, step=5)
        run.log({"b": 2.0}, step=5)
        run.log({"a": 3.0}, step=4)
        run.log({"c": 1.0}, commit=False)
        run.log({"d": 1.0})
    rows = frame(run).set_index("step")
    assert rows.loc[5, ["a", "b"]].tolist() == [1, 2]
    assert rows.loc[4, ["a", "c", "d"]].tolist() == [3, 1, 1]
    assert len(rows) == 2


def test_an_exception_is_a_failed_run_and_a_second_init_ends_the_first() -> None:
    with pytest.raises(ZeroDivisionError), wandb.init() as run:
        run.log({"loss": 1 / 0})
    assert run.session.status == "failed"
    first = wandb.init()
    assert wandb.init().session.id != first.session.id
    assert first.session.status == "completed"


def test_a_run_is_resumed_after_its_last_step() -> None:
    first = wandb.init(name="again")
    for _ in range(3):
        wandb.log({"loss": 1.0})
    wandb.finish()
    wandb.init(id=first.id, resume="must")
    wandb.log({"loss": 0.5})
    wandb.finish()
    assert frame(first).step.tolist() == [0, 1, 2, 3]
    with pytest.raises(UnknownSession):
        wandb.init(id="unknown", resume="must")


def test_watch_needs_the_optimizer_and_records_norms() -> None:
    net = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    run = wandb.init()
    with pytest.raises(wandb.Unsupported, match="optimizer="):
        wandb.watch(net)
    wandb.watch(net, log_freq=1, optimizer=optimizer)
    net(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    wandb.finish()
    assert "grad_norm" in forge.load(run.session.id).metric_names


def test_what_is_not_supported_names_the_alternative() -> None:
    with pytest.raises(wandb.Unsupported, match=r"save the picture into run\.session\.folder"):
        _ = wandb.Image
    with pytest.raises(ForgeError, match="init"):
        wandb.log({"loss": 1.0})
    run = wandb.init()
    with pytest.raises(wandb.Unsupported, match="only numbers"):
        run.log({"text": "hello"})
    with pytest.raises(wandb.Unsupported, match="files stay beside"):
        run.save("x")
    with pytest.raises(wandb.Unsupported, match="fork_from"):
        wandb.init(fork_from="x")
    assert not hasattr(wandb, "Table")


@pytest.mark.parametrize(("last", "status"), [("", "completed"), ("1 / 0", "failed")])
def test_the_end_of_a_script_ends_the_run(tmp_path: Path, last: str, status: str) -> None:
    code = f"import forge_notebook.wandb as w; w.init(); w.log({{'a': 1}}, step=3)\n{last}"
    script = tmp_path / "script.py"
    script.write_text(code)
    subprocess.run([sys.executable, str(script)], check=False, capture_output=True)
    (row,) = forge.sessions()
    assert row["status"] == status
    assert len(forge.load(row["sessionId"]).to_pandas()) == 1
