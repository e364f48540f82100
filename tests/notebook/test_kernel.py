"""The card's messages in a real kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

BACKGROUND = """
import threading, time
import forge_notebook as forge
session = forge.session("Background", total_steps=20_000)
def train():
    for step in range(1, 20_001):
        session.log(step, loss=2000 / step)
        time.sleep(0.02)
threading.Thread(target=train, daemon=True).start()
card = session.widget
display(card)
print(card.comm.comm_id)
"""


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BlockingKernelClient]:
    monkeypatch.setenv("FORGE_STORE", str(tmp_path))
    manager, client = start_new_kernel(startup_timeout=60)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def comm_message(
    client: BlockingKernelClient, comm: str, data: dict[str, Any], subshell: str | None
) -> None:
    message = client.session.msg("comm_msg", {"comm_id": comm, "data": data})
    if subshell is not None:
        message["header"]["subshell_id"] = subshell
    client.shell_channel.send(message)


def wait_for_event(client: BlockingKernelClient, comm: str, event: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while True:
        left = deadline - time.monotonic()
        assert left > 0, f"no {event} came"
        content = client.get_iopub_msg(timeout=left)["content"]
        data = content.get("data", {})
        if content.get("comm_id") == comm and data.get("content", {}).get("event") == event:
            answer: dict[str, Any] = data["content"]["data"]
            return answer


def open_subshell(client: BlockingKernelClient) -> str:
    client.control_channel.send(client.session.msg("create_subshell_request", {}))
    subshell: str = client.get_control_msg(timeout=20)["content"]["subshell_id"]
    return subshell


def close_subshell(client: BlockingKernelClient, subshell: str) -> None:
    closing = client.session.msg("delete_subshell_request", {"subshell_id": subshell})
    client.control_channel.send(closing)
    assert client.get_control_msg(timeout=20)["content"]["status"] == "ok"


def skip_without_subshells(kernel: BlockingKernelClient) -> None:
    told = kernel.kernel_info(reply=True)["content"]
    if "kernel subshells" not in told.get("supported_features", ()):  # ipykernel 6 says nothing
        pytest.skip("this ipykernel has no subshells")


def test_the_card_answers_a_page_whose_last_subshell_is_gone(kernel: BlockingKernelClient) -> None:
    skip_without_subshells(kernel)
    printed: list[str] = []
    kernel.execute_interactive(
        BACKGROUND,
        timeout=60,
        output_hook=lambda m: printed.append(m["content"].get("text", "")),
    )
    comm = "".join(printed).split()[-1]
    subscribe = {"method": "custom", "content": {"event": "subscribe_session", "data": {}}}

    # As JupyterLab after a reload: the states on one subshell, which is then closed.
    before = open_subshell(kernel)
    comm_message(kernel, comm, {"method": "request_state"}, before)
    comm_message(kernel, comm, subscribe, before)
    wait_for_event(kernel, comm, "session_status")
    wait_for_event(kernel, comm, "progress_update")
    close_subshell(kernel, before)

    after = open_subshell(kernel)
    wait_for_event(kernel, comm, "progress_update")
    while kernel.shell_channel.msg_ready():
        kernel.get_shell_msg()
    comm_message(kernel, comm, subscribe, after)
    wait_for_event(kernel, comm, "session_status")


def test_a_page_is_answered_while_a_cell_blocks_where_the_kernel_has_subshells(
    kernel: BlockingKernelClient,
) -> None:
    skip_without_subshells(kernel)
    printed: list[str] = []
    kernel.execute_interactive(
        BACKGROUND,
        timeout=60,
        output_hook=lambda m: printed.append(m["content"].get("text", "")),
    )
    comm = "".join(printed).split()[-1]
    subshell = open_subshell(kernel)
    kernel.execute("time.sleep(30)")
    subscribe = {"method": "custom", "content": {"event": "subscribe_session", "data": {}}}
    comm_message(kernel, comm, subscribe, subshell)
    wait_for_event(kernel, comm, "session_status")


# What Colab has and what of it anywidget and we look at.
COLAB = """
import sys, threading, time, types
sys.modules["google"] = google = types.ModuleType("google")
for name in ("google.colab", "google.colab.output"):
    sys.modules[name] = types.ModuleType(name)
google.colab = sys.modules["google.colab"]
google.colab.output = sys.modules["google.colab.output"]
google.colab.output.enable_custom_widget_manager = lambda: None
google.colab.output._widgets = types.SimpleNamespace(_installed_url=None)
import forge_notebook as forge
session = forge.session("Colab", total_steps=100)
card = session.widget
display(card)
senders = []
send = card.comm.send
def noted(*args, **kwargs):
    senders.append(threading.current_thread().name)
    send(*args, **kwargs)
card.comm.send = noted
print(card.comm.comm_id)
"""
LOOP = """
for step in range(1, 41):
    session.log(step, loss=1 / step)
    time.sleep(0.02)
while not (session.store / "go on").exists():
    time.sleep(0.02)
"""


def test_on_colab_the_card_is_fed_by_the_main_thread_while_the_cell_runs(
    kernel: BlockingKernelClient, tmp_path: Path
) -> None:
    printed: list[str] = []

    def keep(message: dict[str, Any]) -> None:
        printed.append(message["content"].get("text", ""))

    kernel.execute_interactive(COLAB, timeout=60, output_hook=keep)
    comm = "".join(printed).split()[-1]
    kernel.execute(LOOP)
    update = wait_for_event(kernel, comm, "progress_update")
    later = wait_for_event(kernel, comm, "progress_update")
    assert later["fromSeq"] == update["seq"]
    assert not kernel.shell_channel.msg_ready()  # both before the end of the cell
    (tmp_path / "go on").touch()
    kernel.execute_interactive("session.finish()", timeout=60)  # its end is seen after the cell
    subscribe = {"method": "custom", "content": {"event": "subscribe_session", "data": {}}}
    comm_message(kernel, comm, subscribe, None)
    assert wait_for_event(kernel, comm, "session_status")["status"] == "completed"
    printed.clear()
    kernel.execute_interactive(
        "print(set(senders), [t.name for t in threading.enumerate() if t.name == 'forge-cards'])",
        timeout=60,
        output_hook=keep,
    )
    assert "".join(printed).strip() == "{'MainThread'} []"


def test_elsewhere_log_knows_nothing_of_cards(store: Path) -> None:
    from forge_notebook.recording import Session

    session = Session("run")
    assert "log" not in vars(session)
    session.finish()
