"""The uplink over links and servers as they are: slow, cut off, killed and started again."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forge_notebook.core.catalog import Catalog
from forge_notebook.core.runlog import POINTS, Reader
from forge_notebook.recording import Session, uplink
from forge_notebook.recording.uplink import Target, ship
from tests.server.test_ingest import aside, record, steps

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing drops what is under way


class SlowLink:
    """A proxy on this machine that passes so many bytes a second on, and cuts each connection
    off after a while, as gateways do."""

    def __init__(self, port: int, bytes_per_s: int, cut_off_s: float) -> None:
        self.sent = self.cut = 0
        self._there = port
        self._rate, self._cut_off_s = bytes_per_s, cut_off_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, socket.create_connection(("127.0.0.1", self._there)) as there:
                self._pass(connection, there)

    def _pass(self, connection: socket.socket, there: socket.socket) -> None:
        back = threading.Thread(target=_copy, args=(there, connection), daemon=True)
        back.start()
        deadline = time.monotonic() + self._cut_off_s
        part = self._rate // 50
        connection.settimeout(0.02)
        while time.monotonic() < deadline and back.is_alive():
            try:
                data = connection.recv(part)
            except TimeoutError:
                continue
            if not data:
                return
            there.sendall(data)
            self.sent += len(data)
            time.sleep(len(data) / self._rate)
        if back.is_alive():
            self.cut += 1
            for end in (connection, there):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def _copy(source: socket.socket, to: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            to.sendall(data)
    except OSError:
        pass


async def test_a_link_too_slow_for_a_whole_chunk_takes_smaller_ones(
    server: Target,
    here: Path,
    store: Path,
    http_server_port: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = record(here, 1500)
    log = session.folder / "run.log"
    size = log.stat().st_size
    rate, cut_off_s = 60_000, 0.5
    assert size > 2 * rate * cut_off_s  # nothing of it in one piece
    monkeypatch.setattr(uplink, "IDLE_S", 0.02)
    monkeypatch.setattr(uplink, "LONGEST_WAIT_S", 0.05)
    link = SlowLink(http_server_port[-1], rate, cut_off_s)
    through = Target(server.url.replace(str(http_server_port[-1]), str(link.port)), server.token)
    try:
        assert await aside(ship, session.folder, through, patience_s=20)
    finally:
        link.close()
    assert (store / session.id / "run.log").read_bytes() == log.read_bytes()
    assert link.cut > 0
    assert link.sent < 4 * size  # not the same beginning over and over


@pytest.fixture
def jupyter(tmp_path: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[bytes], Target]]]:
    """Starts a Jupyter server in a process of its own, each time on the same port."""
    token = secrets.token_hex(16)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "config.json"
    enabled = {"ServerApp": {"jpserver_extensions": {"forge_notebook": True}}}
    config.write_text(json.dumps({"IdentityProvider": {"token": token}, **enabled}))
    command = [sys.executable, "-m", "jupyter_server", f"--config={config}", "--no-browser",
               "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
               "--ServerApp.port_retries=0", f"--ServerApp.root_dir={tmp_path}"]  # fmt: skip
    environment = {**os.environ, "HOME": str(tmp_path), "FORGE_STORE": str(tmp_path / "there")}
    for kind in ("CONFIG", "RUNTIME", "DATA"):
        environment[f"JUPYTER_{kind}_DIR"] = str(tmp_path / kind.lower())
    started: list[subprocess.Popen[bytes]] = []
    target = Target(f"http://127.0.0.1:{port}/", token)

    def start() -> tuple[subprocess.Popen[bytes], Target]:
        with open(tmp_path / "server.log", "ab") as output:
            started.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
        return started[-1], target

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_until(what: Callable[[], bool], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow  # starts Jupyter three times
def test_a_server_killed_and_started_again_under_a_training_has_every_row_once(
    jupyter: Callable[[], tuple[subprocess.Popen[bytes], Target]], tmp_path: Path
) -> None:
    process, target = jupyter()
    session = Session("far", store=tmp_path / "here", url=target.url, token=target.token)
    there = tmp_path / "there" / session.id / "run.log"
    step = 0

    def arrives() -> bool:
        nonlocal step
        for _ in range(20):
            step += 1
            session.log(step, loss=float(step))
        return there.exists() and steps(there)[-1:] > [first]

    for _ in range(2):
        first = step
        wait_until(arrives)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for _ in range(100):
            step += 1
            session.log(step, loss=float(step))
        process, target = jupyter()
    first = step
    wait_until(arrives)
    session.finish()
    here = session.folder / "run.log"
    wait_until(lambda: there.stat().st_size >= here.stat().st_size)
    assert there.read_bytes() == here.read_bytes()
    reader = Reader(there)
    assert [r.data.step for r in reader.read() if r.kind == POINTS] == list(range(1, step + 1))
    assert reader.lost == 0
    headers = {"Authorization": f"token {target.token}"}
    url = f"{target.url}api/training/status/{session.id}"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as reply:
        assert json.load(reply)["data"]["status"] == "completed"
    (listed,) = Catalog(tmp_path / "there").sessions()
    assert listed["lost"] == 0
    assert target.token.encode() not in (session.folder / "uplink.log").read_bytes()


def test_a_kernel_has_its_servers_store_so_that_no_server_needs_to_be_looked_for(
    jp_configurable_serverapp: Any, tmp_path: Path
) -> None:
    there = tmp_path / "a store of its own"
    extensions = {"jpserver_extensions": {"forge_notebook": True}}
    server = jp_configurable_serverapp(
        config={"ServerApp": extensions, "ForgeNotebookApp": {"store": str(there)}}
    )
    assert server.session_manager.get_kernel_env("a.ipynb", "a")["FORGE_STORE"] == str(there)
