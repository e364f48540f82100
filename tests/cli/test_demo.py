"""The demo's own judgement: a missing model or number is a failure, and is seen."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from forge_notebook.cli import demo, main
from forge_notebook.core.follower import Follower
from forge_notebook.recording import Session


def follower(session: Session) -> Follower:
    made = Follower(session.folder)
    made.load()
    return made


def trained(name: str, *, models: int = 1, **last: float) -> Follower:
    session = Session(name, total_steps=2, models=models)
    values = {"loss": 1.0, "val_loss": 1.5, "tokens_per_s": 10.0} | last
    for model in range(models):
        session.model_started(model, name=f"m{model}", params=1, total_steps=2)
        for step in (1, 2):
            session.log(step, model=model, **values)
        session.model_completed(model)
    session.finish()
    return follower(session)


def test_the_table_is_measured_and_complete(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*demo._summary(trained("text", models=3)), *demo._summary(trained("grok"))]
    assert len(rows) == 4
    assert demo._print_table(rows) is True
    out = capsys.readouterr().out
    assert out.count("1.5000") == 4


@pytest.mark.parametrize("broken", [{"val_loss": math.nan}, {"loss": math.inf}])
def test_a_number_that_was_not_measured_fails_the_demo(broken: dict[str, Any]) -> None:
    rows = [*demo._summary(trained("text", **broken)), *demo._summary(trained("grok"))]
    assert demo._print_table(rows) is False


def test_a_model_that_did_not_finish_fails_the_demo() -> None:
    session = Session("text", total_steps=2)
    session.log(1, loss=1.0, val_loss=1.0, tokens_per_s=1.0)
    session.finish("failed", "broken")
    rows = [*demo._summary(follower(session)), *demo._summary(trained("grok"))]
    assert demo._print_table(rows) is False
    assert demo._print_table(demo._summary(trained("only one session"))) is False


def test_as_json_the_output_is_the_table_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*, stay: bool) -> tuple[list[demo.Row], bool]:
        print("for a person")
        return demo._summary(trained("text")), stay

    monkeypatch.setattr(demo, "_run", run)
    assert main(["demo", "--json"]) == 1
    captured = capsys.readouterr()
    (row,) = json.loads(captured.out)
    assert (row["session"], row["steps"], row["val_loss"]) == ("text", 2, 1.5)
    assert captured.err == "for a person\n"


def test_the_progress_line_comes_from_the_log() -> None:
    session = Session("A run", total_steps=4)
    session.log(1, loss=0.5, val_loss=0.75)
    line = demo.progress_line(follower(session))
    assert line.startswith("A run")
    assert "######.................." in line
    assert " 25.0 %" in line
    assert "loss 0.5000  val 0.7500" in line
    assert "ETA -" in line
