"""A real JupyterLab with our extension, and a real Chromium to look at it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from forge_notebook.core.wire import MIME_TYPE

CHROMIUM = next(
    (p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None
)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

expect.set_options(timeout=20_000)  # a busy machine takes longer than the usual five seconds


@dataclass
class Lab:
    """A running JupyterLab."""

    url: str
    token: str
    root: Path
    store: Path
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes]

    def wait_until_up(self) -> None:
        """Until our extension answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                self.api("health")
                return
            except OSError:
                log = self.root.parent / "server.log"
                assert self.process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server; its kernels go with it."""
        self.process.terminate()
        self.process.wait(20)

    def restart(self) -> None:
        """Start it again on the same port."""
        self.process = self.start()
        self.wait_until_up()

    def notebook(self, name: str, *cells: str) -> str:
        """Write a notebook; returns its path under the root."""
        made = nbformat.v4.new_notebook(
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        )
        made.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
        nbformat.write(made, self.root / name)
        return name

    def api(self, path: str) -> Any:
        """GET one of our endpoints; the data of its envelope."""
        request = urllib.request.Request(
            f"{self.url}api/training/{path}", headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.loads(reply.read())["data"]

    def session(self) -> dict[str, Any]:
        """The newest session."""
        deadline = time.monotonic() + 30
        while not (listed := self.api("sessions")):
            assert time.monotonic() < deadline, "no session appeared"
            time.sleep(0.1)
        newest: dict[str, Any] = listed[0]
        return newest


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    yield from serve(tmp_path, "jupyterlab")


@pytest.fixture
def notebook7(tmp_path: Path) -> Iterator[Lab]:
    yield from serve(tmp_path, "notebook")


def serve(folder: Path, app: str) -> Iterator[Lab]:
    """A Jupyter server with everything of its own: home, settings, store, token."""
    token = secrets.token_hex(16)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    root = folder / "root"
    root.mkdir()
    config = folder / "config.json"
    config.write_text(json.dumps({"IdentityProvider": {"token": token}}))
    environment = {
        **os.environ,
        "HOME": str(folder),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "FORGE_STORE": str(folder / "store"),
    }
    exposes = "LabApp" if app == "jupyterlab" else "JupyterNotebookApp"
    command = [
        sys.executable, "-m", app, f"--config={config}", "--no-browser", "--allow-root",
        "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={root}", f"--{exposes}.expose_app_in_browser=True",
        "--LabApp.news_url=None", "--ServerApp.base_url=/base/",
    ]  # fmt: skip
    notices = folder / "settings" / "@jupyterlab" / "apputils-extension"
    notices.mkdir(parents=True)
    (notices / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')

    def start() -> subprocess.Popen[bytes]:
        with open(folder / "server.log", "a") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    url = f"http://127.0.0.1:{port}/base/"
    made = Lab(url, token, root, folder / "store", start, start())
    made.wait_until_up()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None, "no Chromium on this machine"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    folder = os.environ.get("FORGE_SCREENSHOTS")
    if folder and not opened.is_closed():
        Path(folder).mkdir(parents=True, exist_ok=True)
        opened.screenshot(path=f"{folder}/{request.node.name}.png")
    context.close()
    ours = [error for error in errors if "forge" in error.lower()]
    assert ours == []


def open_notebook(page: Page, lab: Lab, name: str) -> None:
    """Open a notebook and wait until its kernel is ready."""
    page.goto(f"{lab.url}lab/tree/{name}?token={lab.token}&reset")
    page.wait_for_selector(".jp-Notebook .cm-content")
    page.wait_for_function(
        """() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status
                 === 'idle'"""
    )


def run_all(page: Page) -> None:
    """Run every cell; comes back before they have ended."""
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")


def drawn_points(page: Page, where: str = ".forge-cell") -> int:
    """Corners of the longest curve that is drawn inside ``where``."""
    return int(
        page.evaluate(
            """(where) => Math.max(0, ...[...document.querySelectorAll(where + ' path.js-line')]
                 .map(p => (p.getAttribute('d') ?? '').split(/[LHVM]/).length - 1))""",
            where,
        )
    )


def wait_for_points(
    page: Page, more_than: int, where: str = ".forge-cell", timeout: int = 30
) -> int:
    """Wait until a curve has more corners than that."""
    deadline = time.monotonic() + timeout
    while (count := drawn_points(page, where)) <= more_than:
        assert time.monotonic() < deadline, f"still {count} points in {where}"
        page.wait_for_timeout(100)
    return count


def wait_until(page: Page, condition: Callable[[], object], timeout: int = 30) -> None:
    """Wait for what the page does not show by itself."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        page.wait_for_timeout(100)


def outputs_on_disk(path: Path) -> list[Any]:
    """The outputs of a notebook as they are saved."""
    try:
        book = nbformat.read(path, as_version=4)
    except ValueError:  # half of it: Jupyter writes it in place, at this moment
        return []
    return [output for cell in book.cells for output in cell.get("outputs", [])]


def wait_until_saved(page: Page, path: Path) -> None:
    """Wait until the extension has saved the notebook, as it does when a session starts."""
    wait_until(page, lambda: outputs_on_disk(path))


def save(page: Page) -> None:
    """Save the notebook in front."""
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")


def save_at_the_end(page: Page, path: Path) -> None:
    """Save the notebook with the output that takes the first one's place when a session ends."""

    def ended() -> bool:
        save(page)
        cards = [out.get("data", {}).get(MIME_TYPE) for out in outputs_on_disk(path)]
        return any(card and card["snapshot"]["status"]["status"] == "completed" for card in cards)

    wait_until(page, ended)


class Proxy:
    """The network between browser and server: it can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._up = True
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def cut(self) -> None:
        """Drop every connection, refuse new ones."""
        self._up = False
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let connections through again."""
        self._up = True

    def close(self) -> None:
        """Stop listening."""
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)
        for end in self._open:
            end.close()

    def _run(self, work: Callable[..., None], *given: socket.socket) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if not self._up:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    self._run(self._pump, source, sink)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(lab: Lab) -> Iterator[Proxy]:
    made = Proxy(int(lab.url.split(":")[2].split("/")[0]))
    yield made
    made.close()


@contextlib.contextmanager
def training(store: Path, code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A training in a process of its own, as on another terminal."""
    environment = {**os.environ, "FORGE_STORE": str(store)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
