"""watch, export, import, sessions and control, as a terminal runs them."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import forge_notebook as forge
from forge_notebook.cli import main


def out(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def finished(name: str = "a run") -> Any:
    with forge.session(name, total_steps=3) as session:
        for step in (1, 2, 3):
            session.log(step, loss=1.0 / step, odd=math.nan)
    return session


def test_export_and_import(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    session = finished()
    path = tmp_path / "sub" / "run.jsonl"
    assert json.loads(out(capsys, "export", session.id, str(path), "--json")) == {"path": str(path)}
    (row,) = json.loads(out(capsys, "import", str(path), "--json"))
    assert row["name"] == "a run"
    assert forge.load(row["sessionId"]).status["status"] == "completed"
    assert "a run" in out(capsys, "import", str(path))
    assert main(["import", str(tmp_path / "none.csv")]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["serve", "--port", "{taken}"], ["bench", "nothing"], ["import", "nothing"]]
)
def test_what_goes_wrong_is_said_on_the_standard_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert main([argument.format(taken=port) for argument in arguments]) > 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("text", ["[1]", "1", "no JSON"])
def test_arguments_of_a_command_are_an_object(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    session = forge.session("run")
    with pytest.raises(SystemExit, match="2"):
        main(["control", session.id, "set", "--args", text])
    assert "--args" in capsys.readouterr().err


def test_sessions_are_filtered(capsys: pytest.CaptureFixture[str]) -> None:
    finished("one")
    with forge.session("two") as two:
        two.log(1, loss=1.0)
        listed = json.loads(out(capsys, "sessions", "--json", "--status", "running"))
        assert [row["name"] for row in listed] == ["two"]
        assert set(listed[0]) == {"sessionId", "name", "status", "metrics"}
    text = out(capsys, "sessions", "--name", "ONE")
    assert "one" in text
    assert "two" not in text
    assert out(capsys, "sessions", "--name", "three") == "no sessions\n"


def test_watch_shows_a_session_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    session = finished("[bold]not markup[/bold]")
    text = out(capsys, "watch", session.id)
    assert "[bold]not markup[/bold]" in text
    assert "completed" in text
    assert "3/3" in text
    assert "100 %" in text
    assert "nan" in text


def test_watch_ends_with_the_session_and_tells_every_point(tmp_path: Path) -> None:
    session = forge.session("live", total_steps=50)
    session.log(0, loss=1.0)
    watcher = subprocess.Popen(
        [sys.executable, "-m", "forge_notebook.cli", "watch", session.id, "--json"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watcher.stdout is not None
    messages = [json.loads(watcher.stdout.readline())]
    guard = threading.Timer(20, watcher.kill)
    guard.start()
    for step in range(1, 51):
        session.log(step, loss=1.0 / step)
    session.finish("failed", "broken")
    messages += [json.loads(line) for line in watcher.stdout]
    assert watcher.wait() == 1
    guard.cancel()
    watcher.stdout.close()
    assert messages[0]["event"] == "session_status"
    assert messages[-1]["event"] == "training_failed"
    steps = [
        step
        for message in messages
        for block in message["data"].get("series", [])
        for step in block["step"]
    ]
    assert steps == list(range(51))


def test_control_reaches_the_loop(capsys: pytest.CaptureFixture[str]) -> None:
    session = forge.session("controlled")
    session.start()
    reply = json.loads(out(capsys, "control", session.id, "stop", "--json"))
    assert reply["commandId"]
    run = forge.track(iter(int, 1), session=session)
    for seen, _ in enumerate(run):
        assert seen < 10_000_000
    session.finish("stopped")
