"""Existing dashboards, unchanged: the real socket.io-client against us."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forge_notebook.recording import Session

CLIENT = Path(__file__).parent / "socketio_client"
TRANSPORTS = {"default": {}, "websocket": {"transports": ["websocket"]},
              "polling": {"transports": ["polling"]}}  # fmt: skip
PAGE = "http://localhost:3000"


@pytest.fixture(scope="session")
def client_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real client installed."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm on this machine")
    folder = tmp_path_factory.mktemp("socketio-client")
    for file in CLIENT.iterdir():
        shutil.copy(file, folder)
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"],
                   cwd=folder, check=True, timeout=100)  # fmt: skip
    return folder


@pytest.fixture
def serve(store: Path) -> Iterator[Callable[..., str]]:
    """Starts ``forge-notebook serve``; its address."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, last_word: bool = True) -> str:
        command = [sys.executable, "-m", "forge_notebook.cli", "serve", "--port", "0", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        return line.split()[-1] if last_word else line

    yield start
    for process in processes:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0, "serve must end cleanly"
        if process.stdout is not None:
            process.stdout.close()


def train(session: Session, *, models: int = 2, steps: int = 30, pause: float = 0.03) -> None:
    """A training session of real length: its events and its rows, over about two seconds."""
    session.start()
    for model in range(models):
        session.model_started(model, name=f"model {model}", params=10, total_steps=steps)
        for step in range(1, steps + 1):
            session.log(step, model=model, loss=2.0 / step)
            time.sleep(pause)
        session.model_completed(model)
    session.finish()


def node(folder: Path, url: str, session_id: str, options: dict[str, Any]) -> list[str]:
    return ["node", str(folder / "client.mjs"), url, session_id, json.dumps(options)]


def check_told(lines: list[list[Any]], session: Session) -> None:
    """Everything once, in order, to the end."""
    names = [event for event, _ in lines]
    told = [event for event in names if event.startswith(("training_", "model_"))]
    assert told == ["training_started", *["model_started", "model_completed"] * 2,
                    "training_completed"]  # fmt: skip
    assert names.index("session_status") < names.index("progress_update")
    cursor, seen = 0, []
    for _, data in lines:
        if isinstance(data, dict) and "fromSeq" in data:
            assert data["fromSeq"] <= cursor < data["seq"] or cursor == data["seq"] == 0
            cursor = data["seq"]
            for block in data.get("series", []):
                seen += block["values"][block["columns"].index("loss")]
    assert seen == [2.0 / step for step in range(1, 31)] * 2
    last = next(data for event, data in lines if event == "training_completed")
    assert last["metrics"]["overallProgress"] == 100
    progress = [data["metrics"] for event, data in lines if event == "progress_update"]
    assert {"loss", "perplexity", "grokProgress"} <= progress[-1].keys()
    assert ["ack", {"success": True}] in lines


def test_serve_says_where_it_is_as_json(serve: Callable[..., str], store: Path) -> None:
    line = serve("--allow-origin", PAGE, "--json", last_word=False)
    said = json.loads(line)
    assert said["origins"] == [PAGE]
    assert said["store"] == str(store)
    with urllib.request.urlopen(f"{said['url']}/api/training/sessions", timeout=10) as reply:
        assert json.load(reply)["data"] == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_specs_client_runs_unchanged_on_the_open_listener(
    serve: Callable[..., str], client_folder: Path, transport: str
) -> None:
    url = serve("--allow-origin", PAGE)
    session = Session("run", total_steps=30, models=2)
    thread = threading.Thread(target=train, args=(session,))
    options = {**TRANSPORTS[transport], "extraHeaders": {"Origin": PAGE}}
    process = subprocess.Popen(
        node(client_folder, url.replace("http", "ws"), session.id, options),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(json.loads(line))
        if lines[-1][0] == "session_status":  # subscribed: now it may begin
            thread.start()
    thread.join()
    process.stdout.close()
    assert process.wait(10) == 0, lines
    check_told(lines, session)
    used = next(data for event, data in lines if event == "transport")
    assert used == ("polling" if transport == "polling" else "websocket")
    assert (["upgrade", "websocket"] in lines) == (transport == "default")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:3001", "null"])
def test_a_page_that_is_not_listed_gets_nothing(
    serve: Callable[..., str], client_folder: Path, transport: str, origin: str
) -> None:
    url = serve("--allow-origin", PAGE)
    options = {**TRANSPORTS[transport], "extraHeaders": {"Origin": origin}}
    done = subprocess.run(
        node(client_folder, url, "x", options), capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert json.loads(done.stdout)[0] == "connect_error"


async def run_client(
    command: list[str], subscribed: Callable[[], object]
) -> tuple[int | None, list[Any]]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, limit=1 << 22
    )
    assert process.stdout is not None
    lines = []
    while line := await asyncio.wait_for(process.stdout.readline(), 60):
        lines.append(json.loads(line))
        if lines[-1][0] == "session_status":
            subscribed()
    return await process.wait(), lines


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("credential", ["query", "header", "wrong", "none"])
async def test_the_same_under_base_url_with_jupyters_auth(
    jp_serverapp: Any, http_server: Any, http_server_port: Any, jp_base_url: str,
    client_folder: Path, transport: str, credential: str,
) -> None:  # fmt: skip
    token = jp_serverapp.identity_provider.token
    options: dict[str, Any] = {
        **TRANSPORTS[transport],
        "path": f"{jp_base_url}api/training/socket.io/",
    }
    options |= {
        "query": {"query": {"token": token}},
        "header": {"extraHeaders": {"Authorization": f"token {token}"}},
        "wrong": {"query": {"token": "wrong"}},
        "none": {},
    }[credential]
    session = Session("run", total_steps=30, models=2)
    thread = threading.Thread(target=train, args=(session,))
    url = f"http://localhost:{http_server_port[-1]}"
    if credential in ("wrong", "none"):
        code, lines = await run_client(node(client_folder, url, session.id, options), list)
        assert (code, lines[0][0]) == (3, "connect_error")
        return
    code, lines = await run_client(node(client_folder, url, session.id, options), thread.start)
    thread.join()
    assert code == 0, lines
    check_told(lines, session)


def test_the_http_fallback_of_specs_client(serve: Callable[..., str]) -> None:
    url = serve("--allow-origin", PAGE)
    session = Session("run", total_steps=2)
    session.log(1, loss=1.0)
    for path in ("status", "metrics", "history"):
        request = urllib.request.Request(
            f"{url}/api/training/{path}/{session.id}", headers={"Origin": PAGE}
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            assert reply.headers["Access-Control-Allow-Origin"] == PAGE
            assert json.loads(reply.read())["success"] is True


@pytest.mark.parametrize(
    ("method", "path", "headers", "code"),
    [
        ("POST", "/api/training/control/{id}", {}, 403),
        ("POST", "/api/training/control/{id}", {"Origin": PAGE}, 403),
        ("DELETE", "/api/training/sessions/{id}", {}, 403),
        ("GET", "/api/training/status/{id}", {"Origin": "http://evil.example"}, 404),
        ("GET", "/api/training/status/{id}", {"Host": "evil.example"}, 403),
        ("GET", "/socket.io/?EIO=4&transport=polling", {"Host": "evil.example"}, 403),
        ("GET", "/", {}, 404),
    ],
)
def test_the_open_listener_is_read_only_and_for_this_machine(
    serve: Callable[..., str], method: str, path: str, headers: dict[str, str], code: int
) -> None:
    url = serve("--allow-origin", PAGE)
    session = Session("run")
    session.finish()
    body = b'{"command": "stop"}' if method == "POST" else None
    request = urllib.request.Request(
        url + path.format(id=session.id), data=body, method=method, headers=headers
    )
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=10)
    error.value.close()
    assert error.value.code == code
    assert "Access-Control-Allow-Origin" not in error.value.headers or headers["Origin"] == PAGE
    assert (session.folder / "run.log").exists()
    assert not (session.folder / "control.log").exists()


@pytest.mark.parametrize(
    "origin", ["*", "localhost:3000", "http://*.example", "ftp://a", "http://a/b"]
)
def test_origins_are_named_not_patterned(origin: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "forge_notebook.cli", "serve", "--port", "0",
         "--allow-origin", origin], capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "origin" in done.stderr


def test_a_taken_port_is_said_plainly(serve: Callable[..., str]) -> None:
    port = serve().rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "forge_notebook.cli", "serve", "--port", port],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"port {port}" in done.stderr


@pytest.mark.browser
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_specs_client_in_a_real_browser_from_another_origin(
    serve: Callable[..., str], client_folder: Path, transport: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = serve("--allow-origin", f"http://localhost:{port}")
    session = Session("run", total_steps=30, models=2)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium is not None, "browser tests need Chromium"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.server.dashboard_page", str(client_folder), url, str(port),
         session.id, json.dumps(TRANSPORTS[transport]), chromium],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent.parent,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    train(session)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    page = json.loads(output)
    told = [name for name, _ in page["told"]]
    assert [name for name in told if name != "progress_update"] == [
        "training_started", "model_completed", "model_completed", "training_completed",
    ]  # fmt: skip
    assert told.count("progress_update") > 5
    assert page["told"][-1][1]["overallProgress"] == 100
    assert page["transport"] == ("polling" if transport == "polling" else "websocket")
    assert page["polled"][0]["data"]["overallProgress"] == 100
