"""The card in a real JupyterLab, in a real browser."""

from __future__ import annotations

import os
import signal
import time

import pytest
from playwright.sync_api import Page, expect

from tests.ui.conftest import (
    Lab,
    drawn_points,
    open_notebook,
    run_all,
    wait_for_points,
    wait_until,
    wait_until_saved,
)

pytestmark = pytest.mark.browser

# Longer than a test takes on any machine.
TRAIN = """
import forge_notebook as forge
trainer = forge.CognateTrainer(
    forge.TrainingConfig.demo("text", model_count=2, max_steps=10_000, progress_update_interval=2,
                              eval_interval=20, threads=1),
    name="Two models <b>on text</b>",
)
trainer.start()
"""


def test_the_curve_moves_and_survives_a_reload(lab: Lab, page: Page) -> None:
    open_notebook(page, lab, lab.notebook("train.ipynb", TRAIN))
    run_all(page)
    first = wait_for_points(page, 5)
    wait_for_points(page, first)

    # Text of the user is text.
    expect(
        page.locator(".forge-cell").get_by_text("Two models <b>on text</b>").first
    ).to_be_visible()

    began = time.monotonic()
    page.reload()
    page.wait_for_selector(".jp-Notebook .cm-content")
    ready = time.monotonic()
    again = wait_for_points(page, first)
    took = time.monotonic() - ready
    print(f"whole curve again {took:.1f} s after JupyterLab was ready")
    # Two seconds on a quiet machine; CI's two cores also train meanwhile. On one on which
    # JupyterLab itself takes longer, as long as that.
    assert took < max(2 + 3, ready - began)
    wait_for_points(page, again)


def test_cell_panel_and_page_show_the_same_session(lab: Lab, page: Page) -> None:
    open_notebook(page, lab, lab.notebook("train.ipynb", TRAIN))
    run_all(page)
    wait_for_points(page, 3)
    session = lab.session()
    page.evaluate("() => window.jupyterapp.commands.execute('forge-notebook:open-panel')")
    row = page.locator(".jp-ForgePanel").first
    expect(row.get_by_text("Two models <b>on text</b>").first).to_be_visible()
    row.get_by_text("Two models <b>on text</b>").first.click()
    board = page.context.new_page()
    board.goto(f"{lab.url}forge?session={session['sessionId']}")
    wait_for_points(board, 3, where="body")

    page.locator(".forge-cell").get_by_role("button", name="Pause").click()
    expect(page.locator(".forge-cell").get_by_text("paused", exact=False).first).to_be_visible()
    expect(board.get_by_text("paused", exact=False).first).to_be_visible()
    assert lab.api(f"status/{session['sessionId']}")["status"] == "paused"
    metrics = lab.api(f"metrics/{session['sessionId']}")
    for where, view in ((".forge-cell", page), ("body", board)):
        bar = view.locator(f"{where} [role=progressbar]").first
        expect(bar).to_have_attribute("aria-valuenow", f"{metrics['overallProgress']:g}")

    page.locator(".forge-cell").get_by_role("button", name="Resume").click()
    expect(board.get_by_text("running", exact=False).first).to_be_visible()
    board.close()


BLOCKING = """
import time
import forge_notebook as forge
session = forge.session("Blocking", total_steps=60_000)
display(session)
for step in range(1, 60_001):
    session.log(step, loss=600 / step * (1 + step % 2), val_loss=700 / step)
    time.sleep(0.05)
    if session.should_stop:
        break
session.finish("stopped" if step < 60_000 else "completed")
print("loop ended at", step)
"""


def test_a_blocking_cell_is_live_after_a_reload_and_can_be_stopped(lab: Lab, page: Page) -> None:
    open_notebook(page, lab, lab.notebook("blocking.ipynb", BLOCKING))
    run_all(page)
    before = wait_for_points(page, 10)
    wait_until_saved(page, lab.root / "blocking.ipynb")
    page.reload()
    page.wait_for_selector(".jp-Notebook .cm-content")
    card = ".jp-OutputArea"
    again = wait_for_points(page, before, where=card)
    wait_for_points(page, again, where=card)
    session = lab.session()
    assert session["status"] == "running"
    page.locator(card).get_by_role("button", name="Stop").first.click()  # asked only past 10 %
    wait_until(page, lambda: lab.session()["status"] == "stopped")


def test_a_killed_kernel_is_shown_as_interrupted_with_its_curve(lab: Lab, page: Page) -> None:
    open_notebook(page, lab, lab.notebook("train.ipynb", TRAIN))
    run_all(page)
    wait_for_points(page, 5)
    os.kill(lab.session()["pid"], signal.SIGKILL)
    page.context.new_page().goto(f"{lab.url}forge?session={lab.session()['sessionId']}")
    board = page.context.pages[-1]
    expect(board.get_by_text("interrupted", exact=False).first).to_be_visible()
    assert drawn_points(board, "body") >= 5 or wait_for_points(board, 4, where="body") >= 5
    board.close()


def test_the_theme_follows_jupyterlab(lab: Lab, page: Page) -> None:
    open_notebook(page, lab, lab.notebook("train.ipynb", TRAIN))
    run_all(page)
    wait_for_points(page, 5)

    def colours() -> tuple[str, str]:
        return tuple(
            page.evaluate(
                """() => {
                    const style = (css) => getComputedStyle(document.querySelector(css));
                    return [style('.forge-cell .jp-ForgeCard').backgroundColor,
                            style('.forge-cell .xtick text').fill];
                }"""
            )
        )

    light = colours()
    page.evaluate(
        """() => window.jupyterapp.commands.execute('apputils:change-theme',
                                                     {theme: 'JupyterLab Dark'})"""
    )
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    wait_until(page, lambda: all(a != b for a, b in zip(light, colours(), strict=True)))


@pytest.mark.parametrize(
    "label", ["Show Training Sessions", "Open Training Session", "Compare Training Sessions"]
)
def test_the_palette_leads_to_the_panel(lab: Lab, page: Page, label: str) -> None:
    page.goto(f"{lab.url}lab?token={lab.token}&reset")
    page.wait_for_function(
        "() => window.jupyterapp?.commands.hasCommand('forge-notebook:open-panel')"
    )
    # The launcher comes last and takes the focus, without which the palette closes.
    page.wait_for_selector(".jp-Launcher-body")
    page.evaluate("() => window.jupyterapp.restored.then(() => true)")
    expect(page.locator(".jp-ForgePanel")).to_be_hidden()
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:activate-command-palette')")
    search = page.locator(".jp-ModalCommandPalette .lm-CommandPalette-input")
    search.fill(label)
    best = page.locator(".lm-CommandPalette-item.lm-mod-active .lm-CommandPalette-itemLabel")
    expect(best).to_have_text(label)
    search.press("Enter")
    panel = page.locator(".jp-ForgePanel")
    expect(panel.get_by_role("heading", name="Training sessions")).to_be_visible()
    expect(panel.get_by_text("No sessions yet")).to_be_visible()
