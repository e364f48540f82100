"""What a card lives through, in a real browser against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import nbformat
import pytest
from playwright.sync_api import Page, expect

from tests.ui.conftest import (
    Lab,
    Proxy,
    drawn_points,
    open_notebook,
    outputs_on_disk,
    run_all,
    save,
    save_at_the_end,
    training,
    wait_for_points,
    wait_until,
    wait_until_saved,
)

pytestmark = pytest.mark.browser

BACKGROUND = """
import threading, time
import forge_notebook as forge
session = forge.session("Background", total_steps=2000)
def train():
    for step in range(1, 2001):
        session.log(step, loss=2000 / step * (1 + step % 2))  # every point a corner
        time.sleep(0.05)
threading.Thread(target=train, daemon=True).start()
session
"""
SHORT = """
import forge_notebook as forge
with forge.session("Short", total_steps=60, config={"lr": 0.1}) as session:
    display(session)
    for step in range(1, 61):
        session.log(step, loss=60 / step * (1 + step % 2), val_loss=70 / step)
"""
ELSEWHERE = """
import time
import forge_notebook as forge
session = forge.session("Elsewhere", total_steps=4000)
for step in range(1, 4001):
    session.log(step, loss=4000 / step * (1 + step % 2))
    time.sleep(0.03)
"""


def last_step(page: Page, where: str) -> int:
    text = page.locator(f"{where} .forge-sub").first.inner_text()
    return int(text.split("step ")[1].split(" ")[0].replace(",", ""))


def wait_until_each_step_is_drawn(page: Page, where: str) -> None:
    """Every step once: as many corners as steps were logged, but for those of this moment."""
    wait_until(page, lambda: abs(drawn_points(page, where) - last_step(page, where)) < 20)


def test_a_closed_tab_opened_again_later_shows_the_whole_curve(lab: Lab, page: Page) -> None:
    open_notebook(page, lab, lab.notebook("away.ipynb", BACKGROUND))
    run_all(page)
    before = wait_for_points(page, 10)
    wait_until_saved(page, lab.root / "away.ipynb")
    context = page.context
    page.close()
    time.sleep(3)
    again = context.new_page()
    again.goto(f"{lab.url}lab/tree/away.ipynb?token={lab.token}")
    seen = wait_for_points(again, before + 30)
    wait_for_points(again, seen)
    again.close()


def test_a_finished_notebook_shows_its_curve_without_a_kernel_and_as_html(
    lab: Lab, page: Page
) -> None:
    open_notebook(page, lab, lab.notebook("short.ipynb", SHORT))
    run_all(page)
    expect(page.locator(".forge-cell").get_by_text("Completed").first).to_be_visible()
    save_at_the_end(page, lab.root / "short.ipynb")
    page.evaluate("""() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()""")
    page.goto("about:blank")

    page.goto(f"{lab.url}lab/tree/short.ipynb?reset")
    stand_in = page.locator(".jp-ForgeFallback .jp-ForgeCard").first
    expect(stand_in).to_be_visible()
    expect(stand_in.get_by_text("Completed").first).to_be_visible()
    assert wait_for_points(page, 40, where=".jp-ForgeFallback") >= 60
    expect(page.get_by_text("Error displaying widget")).not_to_be_visible()

    made = lab.root / "short.html"
    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", "--log-level=ERROR",
         str(lab.root / "short.ipynb")], check=True,
    )  # fmt: skip
    text = made.read_text()
    assert "widget-view+json" not in text
    page.goto(made.as_uri())
    picture = page.locator(".jp-OutputArea-output img").first
    assert picture.evaluate("image => image.naturalWidth") == 1440


def test_a_server_that_restarts_is_followed_again_without_a_gap(lab: Lab, page: Page) -> None:
    with training(lab.store, ELSEWHERE):
        session = lab.session()["sessionId"]
        page.goto(f"{lab.url}forge?session={session}&token={lab.token}")
        before = wait_for_points(page, 10, where="body")
        lab.stop()
        expect(page.locator(".jp-ForgeCard .forge-link")).to_have_text("Offline", timeout=15_000)
        assert drawn_points(page, "body") >= before
        lab.restart()
        expect(page.locator(".jp-ForgeCard .forge-link")).to_have_text("Live", timeout=40_000)
        seen = wait_for_points(page, before + 50, where="body")
        wait_until_each_step_is_drawn(page, "body")
        wait_for_points(page, seen, where="body")


def test_a_cut_network_is_shown_and_what_was_missed_comes_after(
    lab: Lab, proxy: Proxy, page: Page
) -> None:
    with training(lab.store, ELSEWHERE):
        session = lab.session()["sessionId"]
        url = f"http://127.0.0.1:{proxy.port}/base/forge?session={session}&token={lab.token}"
        page.goto(url)
        before = wait_for_points(page, 10, where="body")
        link = page.locator(".jp-ForgeCard .forge-link")
        expect(link).to_have_text("Live")
        proxy.cut()
        expect(link).to_have_text("Offline", timeout=15_000)
        page.wait_for_timeout(2000)
        proxy.mend()
        expect(link).to_have_text("Live", timeout=40_000)
        wait_for_points(page, before + 60, where="body")
        wait_until_each_step_is_drawn(page, "body")


TWENTY = """
import forge_notebook as forge
with forge.session("Many", models=2, total_steps=500, config={"lr": 0.1}) as session:
    for step in range(1, 501):
        for model in range(2):
            session.log(step, model=model, loss=60 / step, val_loss=70 / step, lr=0.1,
                        grad_norm=1 / step, tokens_per_s=1000.0, weight_norm=float(step))
        if step % 50 == 0:
            session.event("checkpoint_saved", step=step, path="x")
"""


def test_twenty_cards_make_a_small_file_and_one_module(lab: Lab, page: Page) -> None:
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    cells = [TWENTY, *["forge.watch(session.id)"] * 20]
    open_notebook(page, lab, lab.notebook("twenty.ipynb", *cells))
    run_all(page)
    page.wait_for_function(
        """() => window.jupyterapp.shell.currentWidget.content.widgets
                 .every(cell => cell.model.executionCount > 0)""",
        timeout=90_000,
    )
    wait_for_points(page, 20)
    path = lab.root / "twenty.ipynb"

    def whole() -> bool:
        save(page)
        return len(outputs_on_disk(path)) >= 20

    wait_until(page, whole)
    book = nbformat.read(path, as_version=4)
    assert sum(len(cell.outputs) for cell in book.cells) == 20
    pictures = 0
    for cell in book.cells:
        for output in cell.outputs:
            pictures += len(output["data"].pop("image/png"))
    rest = len(json.dumps(book))
    print(f"twenty cards: {rest / 1e3:.0f} kB beyond {pictures / 1e3:.0f} kB of pictures")
    assert rest < 200_000
    assert len([url for url in fetched if "/static/card-" in url]) == 1
    assert len([url for url in fetched if "plotly.mjs" in url]) == 1
