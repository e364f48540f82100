"""Commands: quick, once, and never to nobody."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import forge_notebook as forge
from forge_notebook.core.control import CommandRefused, send_command
from forge_notebook.core.runlog import EVENT, Writer, read_log
from forge_notebook.recording import Session

SENDER = """
import sys, time
from pathlib import Path
from forge_notebook.core.control import send_command
for number in range(9):
    send_command(Path(sys.argv[1]), "checkpoint", {"number": number})
    time.sleep(0.12)
send_command(Path(sys.argv[1]), "stop")
"""


def events(log: Path, name: str | None = None) -> list[dict[str, Any]]:
    found = [r.data for r in read_log(log) if r.kind == EVENT]
    return [e for e in found if name is None or e["event"] == name]


def seconds_until_seen() -> list[float]:
    """Ten commands of another process to a loop that never rests; how late each was answered."""
    session = forge.session("busy")
    sender = subprocess.Popen([sys.executable, "-c", SENDER, str(session.folder)])
    step = 0
    deadline = time.monotonic() + 60
    while not session.should_stop:  # as a cell that computes: no sleep, no await, GIL held
        step += 1
        sum(range(20_000))
        session.log(step, loss=1.0)
        assert time.monotonic() < deadline
    sender.wait()
    sent = {e["data"]["commandId"]: e["time"] for e in events(session.folder / "control.log")}
    acks = events(session.folder / "run.log", "command_ack")
    session.finish("stopped")
    return [(ack["time"] - sent[ack["data"]["commandId"]]) / 1e9 for ack in acks]


def test_commands_are_seen_while_the_main_thread_never_rests() -> None:
    assert len(seconds_until_seen()) == 10


@pytest.mark.slow  # a time: true only of a machine that does nothing else
def test_a_command_is_seen_within_200_ms() -> None:
    assert statistics.median(seconds_until_seen()) <= 0.2


def test_a_command_sent_twice_is_carried_out_once() -> None:
    session = forge.session("s")
    session.log(1, loss=1.0)
    assert send_command(session.folder, "checkpoint", {}, "same") == "same"
    assert send_command(session.folder, "checkpoint", {}, "same") == "same"
    writer = Writer(session.folder / "control.log")  # and by one who did not look
    data = {"commandId": "same", "args": {}}
    writer.append_json(EVENT, {"event": "checkpoint", "time": 1, "data": data})
    writer.abandon()
    session.pump()
    command = session.next_command()
    assert command is not None
    assert command.id == "same"
    assert session.next_command() is None
    session.finish()


def test_commands_come_through_a_control_log_that_was_removed_meanwhile() -> None:
    session = forge.session("s")
    session.log(1, loss=1.0)
    seen = []
    for number in (1, 22, 4444, 3333):  # longer than the one before, and as long
        seen.append(send_command(session.folder, "checkpoint", {"number": number}))
        session.pump()
        (session.folder / "control.log").unlink()
        time.sleep(0.02)  # times of files count in steps of milliseconds
        if number == 22:
            session.pump()  # looked while there was none
    taken = []
    while (command := session.next_command()) is not None:
        taken.append(command.id)
    session.finish()
    assert taken == seen


CHILD = """
import sys, time
import forge_notebook as forge
session = forge.session("s", store=sys.argv[1])
session.log(1, loss=1.0)
print(session.id, flush=True)
time.sleep(60)
"""


def test_a_dead_session_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    folder = tmp_path / child.stdout.readline().strip()
    send_command(folder, "pause")
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with pytest.raises(CommandRefused, match="is not running"):
        send_command(folder, "stop")
    assert len(events(folder / "control.log")) == 1


def test_commands_to_an_earlier_process_are_not_carried_out_by_the_next() -> None:
    session = forge.session("s")
    session.log(1, loss=1.0)
    session.finish()
    writer = Writer(session.folder / "control.log")
    data = {"commandId": "old", "args": {}}
    writer.append_json(EVENT, {"event": "stop", "time": 1, "data": data})
    writer.abandon()
    again = Session("s", resume=session.id)
    again.pump()
    assert again.next_command() is None
    again.finish()
