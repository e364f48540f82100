"""%forge and %%forge in a real shell."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import forge_notebook as forge


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    made = InteractiveShell()
    made.run_line_magic("load_ext", "forge_notebook")
    yield made
    made.history_manager.end_session() if made.history_manager else None


def magic(shell: InteractiveShell, line: str) -> Any:
    return shell.run_line_magic("forge", line)


def test_the_cell_runs_in_the_background_as_a_session(shell: InteractiveShell) -> None:
    cell = "for step in range(1, 4):\n    session.log(step, loss=base / step)\nlast = step"
    shell.user_ns["base"] = 6.0
    run = shell.run_cell_magic("forge", "My cell", cell)
    assert run.wait(10) == "completed"
    assert repr(run) == "Background('My cell', completed)"
    assert shell.user_ns["last"] == 3
    assert forge.load(run.session.id).to_pandas().loss.tolist() == [6, 3, 2]


def test_an_exception_in_the_cell_is_shown_recorded_and_raised(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shell.run_cell_magic("forge", "", "session.log(1, loss=1.0)\nboom = 1 / 0")
    with pytest.raises(ZeroDivisionError):
        run.wait(10)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", "".join(capsys.readouterr()))
    assert "ZeroDivisionError" in shown
    assert "boom = 1 / 0" in shown
    assert run.session.status == "failed"
    with pytest.raises(SyntaxError):
        shell.run_cell_magic("forge", "", "for")


def test_commands_reach_the_newest_running_session(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="no session runs"):
        magic(shell, "stop")
    shell.user_ns["sleep"] = time.sleep
    cell = "while not session.should_stop:\n    session.log(loss=1.0)\n    sleep(0.01)"
    run = shell.run_cell_magic("forge", "loop", cell)
    forge.session("newer, but over").finish()
    magic(shell, "pause")
    deadline = time.monotonic() + 10
    while run.session.status != "paused" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert run.session.status == "paused"
    magic(shell, f"resume {run.session.id}")
    magic(shell, "stop")
    assert run.wait(10) == "stopped"
    assert f"stop sent to {run.session.id}" in capsys.readouterr().out


def test_sessions_is_a_table_of_text(shell: InteractiveShell) -> None:
    forge.session("<script>alert(1)</script>").finish()
    listed = magic(shell, "sessions")
    html = listed._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert magic(shell, "watch").session_id == listed[0]["sessionId"]


@pytest.mark.parametrize("line", ["", "dance", "sessions all", "stop a b"])
def test_wrong_use_says_what_there_is(shell: InteractiveShell, line: str) -> None:
    with pytest.raises(UsageError, match="%forge sessions"):
        magic(shell, line)
    with pytest.raises(UsageError, match="no session 'nothing'"):
        magic(shell, "pause nothing")
