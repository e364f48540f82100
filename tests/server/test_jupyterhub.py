"""A real JupyterHub with its own proxy and two users: everything works behind their prefixes, and
nobody reaches into the other's."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forge_notebook.cli import check
from forge_notebook.cli._jupyter import Endpoint
from forge_notebook.recording import Session
from forge_notebook.recording.uplink import Refused, Target, ship
from forge_notebook.server.page import STATIC

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        importlib.util.find_spec("jupyterhub") is None, reason="JupyterHub is not installed"
    ),
    pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm for Hub's proxy"),
]
USERS = ("alice", "bob")

CONFIG = """
import sys
c.JupyterHub.bind_url = "http://127.0.0.1:{public}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/home/{{username}}"
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.args = [
    "--allow-root",
    "--ServerApp.jpserver_extensions={{'forge_notebook': True}}",
]
c.Spawner.http_timeout = c.Spawner.start_timeout = 90
c.Spawner.environment = {{
    "PYTHONPATH": {path!r},
    "FORGE_STORE": lambda spawner: "{folder}/stores/" + spawner.user.name,
}}
c.ConfigurableHTTPProxy.command = ["node", "{proxy}"]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.ConfigurableHTTPProxy.pid_file = "{folder}/proxy.pid"
c.JupyterHub.services = [{{"name": "tests", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [{{
    "name": "tests", "services": ["tests"],
    "scopes": ["read:hub", "admin:users", "admin:servers", "tokens", "access:servers"],
}}]
"""


@dataclass
class Hub:
    """A running JupyterHub."""

    url: str
    token: str
    folder: Path
    process: subprocess.Popen[bytes]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call Hub's own API."""
        request = urllib.request.Request(
            f"{self.url}/hub/api/{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def server(self, user: str) -> Endpoint:
        """The user's own server, started, with a token of theirs."""
        self.api("POST", f"users/{user}")
        self.api("POST", f"users/{user}/server", {})
        deadline = time.monotonic() + 90
        while not self.api("GET", f"users/{user}")["servers"].get("", {}).get("ready"):
            assert time.monotonic() < deadline, "the user's server did not start"
            time.sleep(0.2)
        token = self.api("POST", f"users/{user}/tokens", {"expires_in": 3600})["token"]
        return Endpoint(f"{self.url}/user/{user}/", token)

    def store(self, user: str) -> Path:
        """The user's store."""
        return self.folder / "stores" / user


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    shutil.copy(Path(__file__).parent / "hub_proxy" / "package.json", folder)
    npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    subprocess.run(npm, cwd=folder, check=True, timeout=120)
    for user in USERS:
        (folder / "home" / user).mkdir(parents=True)
    public, token = free_port(), secrets.token_hex(16)
    proxy = folder / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
    config = folder / "config.py"
    config.write_text(CONFIG.format(
        public=public, hub=free_port(), api=free_port(), folder=folder, proxy=proxy, token=token,
        path=os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
    ))  # fmt: skip
    with open(folder / "hub.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "--config", str(config)],
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    hub = Hub(f"http://127.0.0.1:{public}", token, folder, process)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                hub.api("GET", "info")
                break
            except OSError:
                log_text = (folder / "hub.log").read_text()
                assert process.poll() is None, log_text
                assert time.monotonic() < deadline, log_text
                time.sleep(0.3)
        yield hub
    finally:
        process.send_signal(signal.SIGTERM)  # Hub stops its proxy and its users' servers
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def servers(hub: Hub) -> dict[str, Endpoint]:
    return {user: hub.server(user) for user in USERS}


def get(server: Endpoint, path: str, token: str) -> Any:
    request = urllib.request.Request(server.url + path, headers={"Authorization": f"token {token}"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.loads(reply.read())["data"]


@pytest.mark.skipif(not (STATIC / "dashboard.html").exists(), reason="the front end is not built")
@pytest.mark.parametrize("user", USERS)
def test_every_transport_and_the_page_work_behind_the_prefix(
    hub: Hub, servers: dict[str, Endpoint], user: str
) -> None:
    results = asyncio.run(check._check(servers[user], hub.store(user)))
    assert len(results) == 7
    assert {what: error for what, error in results.items() if error is not None} == {}


def test_each_sees_own_sessions_and_cannot_reach_the_others(
    hub: Hub, servers: dict[str, Endpoint]
) -> None:
    alice, bob = (servers[user] for user in USERS)
    for user in USERS:
        Session(f"of {user}", store=hub.store(user)).finish()
    for user, server in servers.items():
        names = {s["name"] for s in get(server, "api/training/sessions", server.token)}
        assert f"of {user}" in names
        assert not {f"of {other}" for other in USERS if other != user} & names
    for server, stranger in ((alice, bob), (bob, alice)):
        with pytest.raises(urllib.error.HTTPError) as error:
            get(server, "api/training/sessions", stranger.token)
        error.value.close()
        assert error.value.code == 403


def test_an_ingest_token_sends_to_its_users_server_and_opens_nothing_else(
    hub: Hub, servers: dict[str, Endpoint]
) -> None:
    alice, bob = (servers[user] for user in USERS)
    made = alice.request("POST", "api/training/tokens", {"name": "gpu box"})
    with Session("far", store=hub.folder / "elsewhere") as session:
        session.log(1, loss=1.0)
    assert ship(session.folder, Target(alice.url, made["data"]["token"]), patience_s=0)
    there = hub.store("alice") / session.id / "run.log"
    assert there.read_bytes() == (session.folder / "run.log").read_bytes()
    with pytest.raises(Refused, match="403"):
        ship(session.folder, Target(bob.url, made["data"]["token"]), patience_s=0)
    with pytest.raises(urllib.error.HTTPError) as error:
        get(alice, "api/training/sessions", made["data"]["token"])
    error.value.close()
    assert error.value.code == 403
