"""TLS from end to end: a Jupyter server with a certificate of its own authority."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.httpclient import HTTPRequest
from tornado.httputil import HTTPHeaders
from tornado.websocket import websocket_connect

from forge_notebook.recording import Session
from tests.server.real_server import RealServer, real_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """The files of a self-signed certificate for localhost, and of its key."""
    crt, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key),
         "-out", str(crt)],
        check=True, capture_output=True,
    )  # fmt: skip
    return crt, key


@pytest.fixture
def server(store: Path, tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[RealServer]:
    with real_server(tmp_path / "server", store, tls=certificate) as server:
        yield server


def push(
    server: RealServer, session: Session, authority: Path | None
) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "FORGE_URL": server.url, "FORGE_TOKEN": server.token,
        "FORGE_STORE": str(session.folder.parent),
    }  # fmt: skip
    environment.pop("SSL_CERT_FILE", None)
    if authority is not None:
        environment["SSL_CERT_FILE"] = str(authority)
    return subprocess.run(
        [sys.executable, "-m", "forge_notebook.cli", "push", session.id],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_the_uplink_refuses_an_unknown_authority_and_takes_one_that_is_given(
    server: RealServer, store: Path, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    with Session("far", store=tmp_path / "elsewhere") as session:
        session.log(1, loss=1.0)
    refused = push(server, session, None)
    assert refused.returncode == 2
    assert "certificate" in refused.stderr
    assert "SSL_CERT_FILE" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (store / session.id).exists()
    assert server.token not in refused.stdout + refused.stderr
    taken = push(server, session, certificate[0])
    assert taken.returncode == 0, taken.stderr
    there = (store / session.id / "run.log").read_bytes()
    assert there == (session.folder / "run.log").read_bytes()


async def test_a_stream_over_wss_is_whole(
    server: RealServer, store: Path, certificate: tuple[Path, Path]
) -> None:
    context = ssl.create_default_context(cafile=certificate[0])
    session = Session("run", store=store)
    session.start()
    socket = await websocket_connect(
        HTTPRequest(
            server.url.replace("https", "wss") + "api/training/stream",
            headers=HTTPHeaders(server.headers),
            ssl_options=context,
        )
    )
    data = {"sessionId": session.id, "after": 0}
    await socket.write_message(json.dumps({"event": "subscribe_session", "data": data}))
    losses: list[float] = []

    def train() -> None:
        for step in range(1, 3001):
            session.log(step, loss=float(step))
            time.sleep(0.0005)
        session.finish()

    training = asyncio.create_task(asyncio.to_thread(train))
    cursor, event = 0, ""
    while event != "training_completed":
        text = await asyncio.wait_for(socket.read_message(), 20)
        assert text is not None
        message = json.loads(text)
        event, told = message["event"], message["data"]
        if "fromSeq" in told and told["seq"] > cursor:
            assert told["fromSeq"] <= cursor
            cursor = told["seq"]
            for block in told.get("series", []):
                losses += block["values"][block["columns"].index("loss")]
    await training
    socket.close()
    assert losses == [float(i) for i in range(1, 3001)]
