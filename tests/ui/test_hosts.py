"""The same card in Notebook 7."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.ui.conftest import Lab, wait_for_points
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
    page.wait_for_timeout(1500)  # the extension saves the notebook when a session starts
    page.reload()
    seen = wait_for_points(page, before + 20)
    wait_for_points(page, seen)
