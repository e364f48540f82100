"""Trainings that run elsewhere: their logs arrive whole, once, and commands go back."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from forge_notebook.cli import main, push
from forge_notebook.core.catalog import Catalog
from forge_notebook.core.runlog import POINTS, Reader, has_writer, read_log
from forge_notebook.recording import Session, uplink
from forge_notebook.recording.uplink import Refused, Target, Uplink, ship, target


async def aside(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run what blocks beside the server's loop."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, lambda: call(*arguments, **named))


def record(store: Path, rows: int = 300) -> Session:
    with Session("far", store=store) as session:
        for step in range(rows):
            session.log(step, loss=float(step))
    return session


def steps(log: Path) -> list[int]:
    return [r.data.step for r in read_log(log) if r.kind == POINTS]


async def test_a_session_is_sent_whole(server: Target, here: Path, store: Path) -> None:
    session = record(here, 20_000)
    assert (session.folder / "run.log").stat().st_size > 2 * uplink.CHUNK
    assert await aside(ship, session.folder, server, patience_s=0)
    there = store / session.id / "run.log"
    assert there.read_bytes() == (session.folder / "run.log").read_bytes()
    assert not has_writer(there)
    assert (store / session.id).stat().st_mode & 0o777 == 0o700
    assert await aside(ship, session.folder, server, patience_s=0)  # again: nothing changes
    assert there.read_bytes() == (session.folder / "run.log").read_bytes()


async def test_bytes_are_taken_once_in_order_and_never_mixed(jp_fetch: Any, store: Path) -> None:
    async def put(offset: int, data: bytes) -> Any:
        path = ("api", "training", "log", "far")
        params = {"offset": str(offset)}
        reply = await jp_fetch(*path, method="PUT", body=data, params=params)
        return json.loads(reply.body)["data"]["size"]

    assert await put(0, b"abcd") == 4
    assert await put(0, b"abcd") == 4
    assert await put(2, b"cdef") == 6
    for offset, data in [(7, b"x"), (0, b"x"), (5, b"gh")]:
        with pytest.raises(HTTPClientError) as refusal:
            await put(offset, data)
        assert refusal.value.code == 409
    assert (store / "far" / "run.log").read_bytes() == b"abcdef"
    with pytest.raises(HTTPClientError) as refusal:
        await put(6, bytes((4 << 20) + 1))
    assert refusal.value.code == 413


async def test_answers_that_get_lost_and_senders_that_restart_double_nothing(
    server: Target, here: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink, "CHUNK", 777)
    session = record(here, 400)
    real, luck = Uplink._put, random.Random(3)

    def lossy(self: Uplink, *arguments: Any, **named: Any) -> Any:
        if luck.random() < 0.2:
            raise OSError("the request was lost")
        answer = real(self, *arguments, **named)
        if luck.random() < 0.3:
            raise OSError("the answer was lost")
        return answer

    monkeypatch.setattr(Uplink, "_put", lossy)

    def send() -> None:
        sender = Uplink(session.folder, server)
        for _ in range(2000):
            if luck.random() < 0.1:
                sender.close()
                sender = Uplink(session.folder, server)  # restarted, remembers nothing
            try:
                sender.step()
            except OSError:
                continue
            if sender.done:
                sender.close()
                return
        raise AssertionError("never done")

    await aside(send)
    there = store / session.id / "run.log"
    assert there.read_bytes() == (session.folder / "run.log").read_bytes()


@pytest.mark.parametrize("more", [10, 500])
async def test_a_log_begun_anew_goes_behind_the_old_one_and_no_row_is_doubled(
    server: Target, here: Path, store: Path, more: int
) -> None:
    session = Session("far", store=here)
    for step in range(50):
        session.log(step, loss=1.0)
    sender = Uplink(session.folder, server)
    await aside(sender.step)
    (session.folder / "run.log").unlink()
    session._writer.keep_file()
    for step in range(50, 50 + more):
        session.log(step, loss=1.0)
    session.finish()
    for one in (sender, Uplink(session.folder, server)):
        await aside(one.step)
        while not one.done:
            await aside(one.step)
        one.close()
    reader = Reader(store / session.id / "run.log")
    assert [r.data.step for r in reader.read() if r.kind == POINTS] == list(range(50 + more))
    assert reader.lost == 0


async def test_commands_of_the_servers_viewers_reach_the_training_elsewhere(
    server: Target, here: Path, store: Path, jp_fetch: Any
) -> None:
    session = Session("far", store=here)
    session.log(1, loss=1.0)
    sender = threading.Thread(target=ship, args=(session.folder, server), kwargs={"patience_s": 5})
    sender.start()

    def loop() -> None:
        step = 1
        while not session.should_stop:
            step += 1
            session.log(step, loss=1.0)
            time.sleep(0.01)
        session.finish("stopped")

    training = threading.Thread(target=loop)
    training.start()
    deadline = time.monotonic() + 10
    while not (store / session.id / "run.log").exists() or not has_writer(
        store / session.id / "run.log"
    ):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    path = ("api", "training", "control", session.id)
    for command in ("pause", "resume", "stop"):
        reply = await jp_fetch(*path, method="POST", body=json.dumps({"command": command}))
        assert json.loads(reply.body)["data"]["ok"] is True
    await aside(training.join, 10)
    await aside(sender.join, 20)
    assert not sender.is_alive()
    (status,) = Catalog(store).sessions()
    assert status["status"] == "stopped"
    assert (store / session.id / "run.log").read_bytes() == (
        session.folder / "run.log"
    ).read_bytes()


TRAIN = """
import sys, time
import forge_notebook as forge
session = forge.session("far", store=sys.argv[1])
print(session.id, flush=True)
step = 0
while True:
    step += 1
    session.log(step, loss=1.0)
    print(step, flush=True)
    time.sleep(0.002)
"""


async def test_what_a_killed_training_left_is_sent_by_the_process_beside_it(
    server: Target, here: Path, store: Path
) -> None:
    environment = {**os.environ, "FORGE_URL": server.url, "FORGE_TOKEN": server.token}
    environment.pop("FORGE_STORE")

    def train() -> tuple[str, int]:
        child = subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(here)], env=environment, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        session_id = child.stdout.readline().decode().strip()
        lines = [child.stdout.readline()]  # a slow machine takes its time to the first step
        time.sleep(1.0)
        child.send_signal(signal.SIGKILL)
        lines += [line for line in child.stdout if line.endswith(b"\n")]
        child.wait()
        child.stdout.close()
        return session_id, int(lines[-1])

    session_id, acknowledged = await aside(train)
    there = store / session_id / "run.log"
    deadline = time.monotonic() + 30
    while not there.exists() or has_writer(there) or len(steps(there)) < acknowledged:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert steps(there)[:acknowledged] == list(range(1, acknowledged + 1))
    (status,) = Catalog(store).sessions()
    assert status["status"] == "interrupted"
    for folder in (here, store):
        for file in folder.rglob("*"):
            assert not file.is_file() or server.token.encode() not in file.read_bytes(), file


async def test_a_server_that_was_down_for_the_whole_run_gets_it_afterwards(
    server: Target, here: Path, store: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = Target(f"http://127.0.0.1:{free.getsockname()[1]}/", "secret")
    session = record(here)
    assert await aside(ship, session.folder, nobody, patience_s=0.1) is False
    monkeypatch.setenv("FORGE_STORE", str(here))
    monkeypatch.setenv("FORGE_TOKEN", server.token)
    monkeypatch.setattr(push, "PATIENCE_S", 0.1)
    assert await aside(main, ["push", session.id, "--url", nobody.url, "--json"]) == 1
    assert await aside(main, ["push", session.id, "--url", server.url, "--json"]) == 0
    assert server.token not in capsys.readouterr().out
    assert steps(store / session.id / "run.log") == list(range(300))


async def test_a_wrong_token_is_said_and_not_tried_for_ever(server: Target, here: Path) -> None:
    session = record(here, 3)
    with pytest.raises(Refused, match="403"):
        await aside(ship, session.folder, Target(server.url, "wrong"), patience_s=60)


async def test_a_session_that_is_recorded_on_the_server_itself_is_not_overwritten(
    server: Target, here: Path, store: Path
) -> None:
    local = Session("far", store=store)
    local.log(1, loss=1.0)
    session = record(here, 3)
    shutil.move(session.folder, here / local.id)
    assert await aside(ship, here / local.id, server, patience_s=0.1) is False
    local.log(2, loss=1.0)
    local.finish()
    assert steps(local.folder / "run.log") == [1, 2]


def test_certificates_are_verified(here: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key),
         "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"data": {"size": 0, "tail": 0, "commands": [], "after": 0}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    httpd = http.server.HTTPServer(("localhost", 0), Handler)
    httpd.handle_error = lambda *_: None  # type: ignore[method-assign]
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        session = record(here, 3)
        sender = Uplink(session.folder, Target(f"https://localhost:{httpd.server_port}/", "t"))
        with pytest.raises(Refused, match=r"not trusted here.*SSL_CERT_FILE"):
            sender.step()
        sender.close()
        assert asked == []
        command = [sys.executable, "-c", "import sys; from pathlib import Path\n"
                   "from forge_notebook.recording.uplink import Uplink, target\n"
                   "print(Uplink(Path(sys.argv[1]), target()).step())",
                   str(session.folder)]  # fmt: skip
        environment = {**os.environ, "SSL_CERT_FILE": str(certificate)}
        environment["FORGE_URL"] = f"https://localhost:{httpd.server_port}/"
        subprocess.run(command, env=environment, check=True, capture_output=True)
        assert asked  # with the authority trusted it works
    finally:
        httpd.shutdown()
        httpd.server_close()


def test_where_to_send_comes_from_the_environment_and_shows_no_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("FORGE_URL", "FORGE_TOKEN", "KERNEL_FORGE_URL", "KERNEL_FORGE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert target() is None
    monkeypatch.setenv("KERNEL_FORGE_URL", "https://hub/user/x")
    monkeypatch.setenv("KERNEL_FORGE_TOKEN", "s3cret")
    found = target()
    assert found == Target("https://hub/user/x/", "s3cret")
    assert "s3cret" not in repr(found)
    for wrong in ("hub/user", "ftp://hub/", "https://"):
        with pytest.raises(ValueError, match="FORGE_URL"):
            target(wrong)
