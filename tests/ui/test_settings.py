"""The settings of notebooks, changed in JupyterLab's settings editor, and what they change."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.ui.conftest import (
    Lab,
    open_notebook,
    outputs_on_disk,
    run_all,
    save_at_the_end,
    wait_for_points,
    wait_until_saved,
)
from tests.ui.test_survival import BACKGROUND, SHORT

pytestmark = pytest.mark.browser


def switch(page: Page, setting: str, on: bool) -> None:
    """Tick or untick a setting; comes back when JupyterLab has saved it, to the same tab."""
    page.evaluate(
        """() => { globalThis.forgeTab = window.jupyterapp.shell.currentWidget;
                   window.jupyterapp.commands.execute('settingeditor:open', {query: 'Forge'}); }"""
    )
    with page.expect_response(lambda r: r.request.method == "PUT" and "/api/settings/" in r.url):
        page.locator(f"[id='jp-SettingsEditor-forge-notebook:plugin_{setting}']").set_checked(on)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.close()")
    page.evaluate("() => window.jupyterapp.shell.activateById(globalThis.forgeTab.id)")


def test_a_notebook_is_saved_when_a_session_starts_unless_switched_off(
    lab: Lab, page: Page
) -> None:
    open_notebook(page, lab, lab.notebook("on.ipynb", BACKGROUND))
    run_all(page)
    wait_for_points(page, 10)
    wait_until_saved(page, lab.root / "on.ipynb")
    assert len(outputs_on_disk(lab.root / "on.ipynb")) == 1

    switch(page, "saveOnStart", False)
    open_notebook(page, lab, lab.notebook("off.ipynb", BACKGROUND))
    run_all(page)
    wait_for_points(page, 10)
    page.wait_for_timeout(3000)
    assert outputs_on_disk(lab.root / "off.ipynb") == []


def test_the_stand_in_of_a_dead_widget_comes_and_goes_with_its_setting(
    lab: Lab, page: Page
) -> None:
    open_notebook(page, lab, lab.notebook("short.ipynb", SHORT))
    run_all(page)
    page.locator(".forge-cell").get_by_text("Completed").first.wait_for()
    save_at_the_end(page, lab.root / "short.ipynb")
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.goto(f"{lab.url}lab/tree/short.ipynb?reset")
    stand_in = page.locator(".jp-ForgeFallback .jp-ForgeCard")
    dead = page.locator(".jp-OutputArea").get_by_text("Error displaying widget")
    stand_in.wait_for()
    expect(dead).not_to_be_visible()

    switch(page, "fallbackCard", False)
    expect(dead).to_be_visible()
    expect(stand_in).to_have_count(0)
    page.goto(f"{lab.url}lab/tree/short.ipynb?reset")
    dead.wait_for()
    page.wait_for_timeout(2500)  # a stand-in waits 1.2 s for the widget
    expect(stand_in).to_have_count(0)

    switch(page, "fallbackCard", True)
    expect(stand_in).to_be_visible()
    expect(dead).not_to_be_visible()
