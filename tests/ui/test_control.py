"""Control from the panel and from the page: pending, acknowledged, confirmed; by keyboard alone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.conftest import Lab, training

pytestmark = pytest.mark.browser

# A look at the commands each 0.3 s: long enough for a page to show that it waits.
CONTROLLED = """
import time
import forge_notebook as forge
session = forge.session("Controlled", total_steps=100, config={"learning_rate": 0.1})
paused = False
for step in range(20, 10_000):
    if not paused:
        session.log(min(step, 99), loss=100 / step, lr=0.1)
    time.sleep(0.3)
    command = session.next_command()
    if command is None:
        continue
    if command.name == "stop":
        session.event("resumed") if paused else None
        command.ack(True)
        break
    if command.name in ("pause", "resume"):
        paused = command.name == "pause"
        session.event("paused" if paused else "resumed")
    command.ack(True)
session.finish("stopped")
"""

WATCH_BUSY = """(root) => {
  globalThis.forgeBusy = [];
  new MutationObserver(() => {
    for (const node of root.querySelectorAll('button[aria-busy="true"]')) {
      const text = node.textContent.trim();
      if (globalThis.forgeBusy.at(-1) !== text) globalThis.forgeBusy.push(text);
    }
  }).observe(root, { subtree: true, attributes: true, childList: true, characterData: true });
}"""

# What can be operated and is on the page, in its order, marked so that each is known again.
CONTROLS = """(root) => {
  for (const node of document.querySelectorAll("[data-reach]")) delete node.dataset.reach;
  return [...root.querySelectorAll("a[href], button, input, select, summary")]
  .filter((node) => !node.disabled && node.checkVisibility({ visibilityProperty: true }))
  .map((node, i) => { node.dataset.reach = i; return i; });
}"""

FOCUSED = """() => { const node = document.activeElement;
  const style = getComputedStyle(node);
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  return { at: node.dataset?.reach ?? null, ring, what: node.outerHTML.slice(0, 120) }; }"""


def reached_by_tab(page: Page, root: Locator) -> int:
    """Asserts that Tab goes through every control inside in order, each with a visible ring."""
    wanted: list[int] = root.evaluate(CONTROLS)
    root.locator("[data-reach='0']").focus()
    # A ring is for whoever came by the keyboard.
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    for number in wanted:
        focused = page.evaluate(FOCUSED)
        assert focused["at"] == str(number), focused
        assert focused["ring"], focused
        page.keyboard.press("Tab")
    return len(wanted)


def drive(page: Page, root: Locator) -> None:
    """Every command to the running session whose card is inside."""
    card = root.locator(".jp-ForgeCard")
    state = card.locator(".forge-state").first
    expect(state).to_have_text("Running")
    card.evaluate(WATCH_BUSY)

    card.get_by_role("button", name="Pause").click()
    expect(state).to_have_text("Paused")
    page.wait_for_timeout(500)
    assert reached_by_tab(page, root) > 10
    card.get_by_role("button", name="Resume").focus()
    page.keyboard.press("Enter")
    expect(state).to_have_text("Running")

    card.get_by_role("button", name="Checkpoint").click()
    expect(card.locator(".forge-answer")).to_have_text("Checkpoint saved")
    card.get_by_role("button", name="Learning rate").click()
    card.get_by_label("New learning rate").fill("0.05")
    page.keyboard.press("Enter")
    expect(card.locator(".forge-answer")).to_have_text("Set")

    card.get_by_role("button", name="Stop").click()
    asked = card.get_by_role("alertdialog", name="Stop training?")
    expect(asked.get_by_role("button", name="Keep running")).to_be_focused()
    page.keyboard.press("Escape")
    expect(asked).to_be_hidden()
    expect(card.get_by_role("button", name="Stop")).to_be_focused()
    expect(state).to_have_text("Running")
    page.keyboard.press("Enter")
    asked.get_by_role("button", name="Stop training").click()
    expect(state).to_have_text("Stopped")
    expect(card.get_by_role("group", name="Training controls")).to_be_hidden()
    busy = page.evaluate("() => globalThis.forgeBusy")
    verbs = ("Pausing", "Resuming", "Saving", "Setting", "Stopping")
    assert busy == [f"{verb}\u2026" for verb in verbs]


def test_control_and_keyboard_in_the_panel_and_on_the_page(lab: Lab, page: Page) -> None:
    page.goto(f"{lab.url}lab?token={lab.token}&reset")
    page.wait_for_function(
        "() => window.jupyterapp?.commands.hasCommand('forge-notebook:open-panel')"
    )
    page.evaluate("() => window.jupyterapp.restored")
    page.wait_for_selector(".jp-Launcher-body")
    page.wait_for_timeout(1000)  # the launcher takes the focus when it comes
    page.evaluate("() => window.jupyterapp.commands.execute('forge-notebook:open-panel')")
    panel = page.locator(".jp-ForgePanel")
    with training(lab.store, CONTROLLED) as process:
        row = panel.locator("button.forge-row")
        expect(row).to_contain_text("Running")
        panel.get_by_label("Tick Controlled").check()
        assert reached_by_tab(page, panel) == 4  # search, clear, tick, row
        row.click()
        drive(page, panel)
        assert process.wait(10) == 0
    assert lab.session()["status"] == "stopped"

    with training(lab.store, CONTROLLED) as process:
        expect(panel.get_by_role("button", name="All sessions")).to_be_visible()
        page.goto(f"{lab.url}forge?token={lab.token}")
        root = page.locator("body")
        expect(root.locator(".forge-state").first).to_be_visible()
        root.locator("button.forge-row", has_text="Running").click()
        drive(page, root)
        assert process.wait(10) == 0
