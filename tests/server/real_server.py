"""A real Jupyter server with our extension, in a process of its own, configured as a test needs."""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class RealServer:
    """Where it listens, and its token."""

    url: str
    token: str
    log: Path

    @property
    def headers(self) -> dict[str, str]:
        """What a request needs to get in."""
        return {"Authorization": f"token {self.token}"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def real_server(
    folder: Path, store: Path, tls: tuple[Path, Path] | None = None, **settings: dict[str, Any]
) -> Iterator[RealServer]:
    """``settings``: traits by class; ``tls``: files of the certificate and its key."""
    folder.mkdir()
    token, port = secrets.token_hex(24), free_port()
    server_settings: dict[str, Any] = {
        "ip": "127.0.0.1", "port": port, "port_retries": 0, "root_dir": str(folder),
        "jpserver_extensions": {"forge_notebook": True}, "allow_root": True, "open_browser": False,
    }  # fmt: skip
    if tls is not None:
        server_settings |= {"certfile": str(tls[0]), "keyfile": str(tls[1])}
    server_settings |= settings.pop("ServerApp", {})
    config = folder / "config.json"
    config.write_text(
        json.dumps({"ServerApp": server_settings, "IdentityProvider": {"token": token}, **settings})
    )
    log = folder / "server.log"
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", f"--config={config}"],
            env={**os.environ, "FORGE_STORE": str(store), "JUPYTER_RUNTIME_DIR": str(folder)},
            stdout=output, stderr=output,
        )  # fmt: skip
    scheme = "http" if tls is None else "https"
    base = server_settings.get("base_url", "/")
    server = RealServer(f"{scheme}://localhost:{port}{base}", token, log)
    try:
        _wait(server, process, tls)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(
    server: RealServer, process: subprocess.Popen[bytes], tls: tuple[Path, Path] | None
) -> None:
    context = None if tls is None else ssl.create_default_context(cafile=tls[0])
    request = urllib.request.Request(f"{server.url}api/training/health", headers=server.headers)
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10, context=context):
                return
        except OSError:
            assert process.poll() is None, server.log.read_text()[-3000:]
            assert time.monotonic() < deadline, server.log.read_text()[-3000:]
            time.sleep(0.1)
