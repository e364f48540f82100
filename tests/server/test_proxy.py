"""Behind a plain reverse proxy that cuts idle sockets: nginx, with seconds for its minute."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httputil import HTTPHeaders
from tornado.websocket import websocket_connect

from forge_notebook.recording import Session
from forge_notebook.recording.uplink import Target, ship
from forge_notebook.server.stream import StreamHandler
from tests.server.real_server import RealServer, free_port, real_server
from tests.server.test_turns import until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
]
CUT_S = 3
PREFIX = "/proxied/"

CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 8m;
    location {prefix} {{
      proxy_pass {upstream};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_read_timeout {cut}s;
      proxy_send_timeout {cut}s;
    }}
  }}
}}
"""


@pytest.fixture
def proxied(store: Path, tmp_path: Path) -> Iterator[RealServer]:
    """Our server as seen through the proxy."""
    assert NGINX is not None
    settings = {"base_url": PREFIX, "trust_xheaders": True}
    with real_server(tmp_path / "server", store, ServerApp=settings) as server:
        port, folder = free_port(), tmp_path / "nginx"
        folder.mkdir()
        upstream = server.url.removesuffix(PREFIX).replace("localhost", "127.0.0.1")
        config = folder / "nginx.conf"
        config.write_text(
            CONFIG.format(folder=folder, port=port, prefix=PREFIX, cut=CUT_S,
                          upstream=upstream)
        )  # fmt: skip
        process = subprocess.Popen([NGINX, "-c", str(config), "-e", str(folder / "start.log")])
        try:
            deadline = time.monotonic() + 10
            while not (folder / "nginx.pid").exists():
                assert process.poll() is None, (folder / "start.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield RealServer(f"http://localhost:{port}{PREFIX}", server.token, server.log)
        finally:
            process.terminate()
            process.wait(10)


class Viewer:
    """Follows a session by the cursor rule, and comes back when it is cut off."""

    def __init__(self, server: RealServer, session_id: str) -> None:
        self.server = server
        self.id = session_id
        self.cursor = 0
        self.losses: list[float] = []
        self.connected = 0
        self.heartbeats = 0
        self.done = False

    def take(self, event: str, data: dict[str, Any]) -> None:
        self.heartbeats += event == "heartbeat"
        if "fromSeq" in data and data["seq"] > self.cursor:
            assert data["fromSeq"] <= self.cursor
            for block in data.get("series", []):
                values = block["values"][block["columns"].index("loss")]
                self.losses += [
                    v for seq, v in zip(block["seq"], values, strict=True) if seq > self.cursor
                ]
            self.cursor = data["seq"]
        self.done = self.done or event == "training_completed"

    async def stream(self) -> None:
        url = self.server.url.replace("http", "ws", 1) + "api/training/stream"
        while not self.done:
            socket = await websocket_connect(
                HTTPRequest(url, headers=HTTPHeaders(self.server.headers))
            )
            self.connected += 1
            data = {"sessionId": self.id, "after": self.cursor}
            await socket.write_message(json.dumps({"event": "subscribe_session", "data": data}))
            while not self.done and (text := await socket.read_message()) is not None:
                message = json.loads(text)
                self.take(message["event"], message["data"])
            socket.close()

    async def poll(self) -> None:
        url = f"{self.server.url}api/training/poll/{self.id}"
        while not self.done:
            # Shorter than the proxy's patience; our own client asks for 15 s of its 60.
            request = HTTPRequest(
                f"{url}?after={self.cursor}&wait={CUT_S / 2}",
                headers=HTTPHeaders(self.server.headers),
            )
            reply = json.loads((await AsyncHTTPClient().fetch(request)).body)["data"]
            for message in reply["messages"]:
                self.take(message["event"], message["data"])


@pytest.mark.parametrize("way", ["stream", "poll"])
async def test_a_run_with_long_silences_arrives_whole(
    proxied: RealServer, store: Path, way: str
) -> None:
    session = Session("run", store=store)
    session.start()
    viewer = Viewer(proxied, session.id)
    following = asyncio.create_task(getattr(viewer, way)())
    for step in range(60):
        session.log(step, loss=float(step))
        await asyncio.sleep(CUT_S + 1.5 if step in (20, 40) else 0.02)
    session.finish()
    await asyncio.wait_for(following, 20)
    assert viewer.losses == [float(step) for step in range(60)]
    if way == "stream":  # the heartbeat comes each 15 s: this proxy cuts before
        assert viewer.connected > 1, "the proxy cut nothing: the test shows nothing"


async def test_the_heartbeat_keeps_an_idle_socket_open(
    store: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with 15 s and a proxy's 60: a fourth of what the proxy allows.
    assert StreamHandler.period_s * 4 <= 60
    beat = tmp_path / "site"
    beat.mkdir()
    (beat / "sitecustomize.py").write_text(
        "import forge_notebook.server.stream as s; s.StreamHandler.period_s = 1\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(beat), prepend=":")
    server: RealServer = request.getfixturevalue("proxied")
    session = Session("run", store=store)
    session.start()
    viewer = Viewer(server, session.id)
    following = asyncio.create_task(viewer.stream())
    await asyncio.sleep(3 * CUT_S)
    await until(lambda: viewer.heartbeats >= 2 * CUT_S)  # a busy machine connects slowly
    session.log(1, loss=1.0)
    session.finish()
    await asyncio.wait_for(following, 10)
    assert viewer.connected == 1
    assert viewer.losses == [1.0]


async def test_the_uplink_and_the_page_pass(proxied: RealServer, store: Path) -> None:
    elsewhere = store.parent / "elsewhere"
    with Session("far", store=elsewhere) as session:
        for step in range(20_000):
            session.log(step, loss=1.0)
    target = Target(proxied.url, proxied.token)
    assert await asyncio.to_thread(ship, session.folder, target, patience_s=5)
    there = (store / session.id / "run.log").read_bytes()
    assert there == (session.folder / "run.log").read_bytes()
    request = HTTPRequest(f"{proxied.url}forge", headers=HTTPHeaders(proxied.headers))
    assert (await AsyncHTTPClient().fetch(request)).code == 200
