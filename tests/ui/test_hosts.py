"""The same card in Notebook 7 and in marimo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from forge_notebook.core.catalog import Catalog
from tests.ui.conftest import Lab, wait_for_points, wait_until_saved
from tests.ui.test_survival import BACKGROUND

pytestmark = pytest.mark.browser


def test_notebook_7_shows_the_card_the_panel_and_the_card_again_after_a_reload(
    notebook7: Lab, page: Page
) -> None:
    lab = notebook7
    name = lab.notebook("seven.ipynb", BACKGROUND)
    page.goto(f"{lab.url}notebooks/{name}?token={lab.token}")
    page.wait_for_function(
        """() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status
                 === 'idle'"""
    )
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    before = wait_for_points(page, 10)
    page.evaluate("() => window.jupyterapp.commands.execute('forge-notebook:open-panel')")
    expect(page.locator(".jp-ForgePanel").get_by_text("Background").first).to_be_visible()
    wait_until_saved(page, lab.root / name)
    page.reload()
    seen = wait_for_points(page, before + 20)
    wait_for_points(page, seen)


MARIMO = """
import marimo
app = marimo.App()

@app.cell
def _():
    import threading, time
    import forge_notebook as forge
    session = forge.session("In marimo", total_steps=10_000)
    def train():
        for step in range(1, 10_001):
            session.log(step, loss=600 / step)
            if session.should_stop:
                break
            time.sleep(0.03)
        session.finish("stopped")
    threading.Thread(target=train, daemon=True).start()
    session
    return
"""


@pytest.mark.parametrize("mode", ["run", "edit"])
def test_marimo_shows_the_card_live_and_its_buttons_work(
    tmp_path: Path, store: Path, page: Page, mode: str
) -> None:
    notebook = tmp_path / "notebook.py"
    notebook.write_text(MARIMO)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "-q", mode, str(notebook), "--headless",
               "--no-token", "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    server = subprocess.Popen(command, env={**os.environ, "HOME": str(tmp_path)})
    try:
        wait_until_up(f"http://127.0.0.1:{port}/")
        page.goto(f"http://127.0.0.1:{port}/")
        # In a shadow root, which Playwright looks into and querySelector does not.
        card = page.locator(".jp-ForgeCard")
        if mode == "edit":  # which runs nothing by itself
            run_stale_cells_until(page, card)
        expect(card.locator(".forge-sub")).to_contain_text("step 1", timeout=60_000)
        expect(card.locator("path.js-line")).to_have_count(1)
        seen = card.locator(".forge-sub").inner_text()
        expect(card.locator(".forge-sub")).not_to_have_text(seen)
        card.get_by_role("button", name="Pause").click()
        expect(card.locator(".forge-state")).to_have_text("Paused")
        card.get_by_role("button", name="Stop").click()
        expect(card.locator(".forge-state")).to_have_text("Stopped")
        (session,) = Catalog(store).sessions()
        assert session["status"] == "stopped"
    finally:
        server.terminate()
        server.wait(20)


def run_stale_cells_until(page: Page, card: Locator) -> None:
    """marimo's key for cells that have not run; it is lost before the kernel is up."""
    deadline = time.monotonic() + 90
    while card.count() == 0:
        assert time.monotonic() < deadline, "the cell did not run"
        page.keyboard.press("Control+Shift+R")
        page.wait_for_timeout(3000)


def wait_until_up(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.1)
