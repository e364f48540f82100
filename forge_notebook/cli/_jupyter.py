"""A Jupyter server of our own with the extension, and a kernel of it: for demo, check and soak."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_S = 60.0


@dataclass
class Endpoint:
    """A Jupyter server that somebody runs, and a token of it."""

    url: str
    token: str

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Call Jupyter's REST API, or ours."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            text = reply.read()
        return json.loads(text) if text else None


class Server(Endpoint):
    """A Jupyter server on a free loopback port. Its token is in its files, never printed."""

    def __init__(self, folder: Path, store: Path, more: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"http://127.0.0.1:{_free_port()}/", secrets.token_hex(24))
        self.runtime = folder / "runtime"
        self._log = folder / "server.log"
        config = folder / "config.json"
        config.touch(mode=0o600)  # not on the command line, which every user can read
        config.write_text(json.dumps({"IdentityProvider": {"token": self.token}, **(more or {})}))
        port = urllib.parse.urlsplit(self.url).port
        self._command = [
            sys.executable, "-m", "jupyter_server", f"--config={config}", "--no-browser",
            "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
            "--ServerApp.jpserver_extensions={'forge_notebook': True}", "--allow-root",
            f"--ServerApp.root_dir={folder}",
            # The login page lands on our page, not on Jupyter's list of files.
            "--ServerApp.default_url=/forge",
        ]  # fmt: skip
        self._environment = {
            **os.environ, "JUPYTER_RUNTIME_DIR": str(self.runtime), "FORGE_STORE": str(store),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        }  # fmt: skip
        self._environment.pop("JUPYTER_TOKEN", None)
        self._process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Of the process that is running now."""
        return self._process.pid

    @property
    def login_page(self) -> str:
        """Jupyter's own file that logs its user in; readable by them alone."""
        return (self.runtime / f"jpserver-{self.pid}-open.html").as_uri()

    def start(self) -> None:
        """Start, and come back once our extension answers; RuntimeError where it does not."""
        with open(self._log, "a") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.request("GET", "api/training/health")
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = f"exit status {self._process.poll()}\n{self._log.read_text()}"
                    raise RuntimeError(f"the Jupyter server did not start: {said}") from None
                time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL; ``start`` starts it again on the same port."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it; its kernels go with it."""
        self._process.send_signal(signal.SIGINT if os.name == "nt" else signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def jupyter_server(store: Path, more: Mapping[str, Any] | None = None) -> Iterator[Server]:
    """A running server on the given store; ``more``: of its config file."""
    with tempfile.TemporaryDirectory(prefix="forge-server-") as folder:
        server = Server(Path(folder), store, more)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def kernel_of(server: Server) -> Iterator[Any]:
    """A client of a kernel that the server started."""
    from jupyter_client.blocking.client import BlockingKernelClient

    kernel_id = server.request("POST", "api/kernels", {})["id"]
    client = BlockingKernelClient(connection_file=str(server.runtime / f"kernel-{kernel_id}.json"))
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=START_S)
        yield client
    finally:
        client.stop_channels()
        server.request("DELETE", f"api/kernels/{kernel_id}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
