"""What is told outside of the card, how it is switched on and off; no motion for who wants none."""

from __future__ import annotations

import json
import urllib.request

import pytest
from playwright.sync_api import Page, expect

from tests.ui.conftest import Lab, training, wait_for_points, wait_until
from tests.ui.test_card import RUN
from tests.ui.test_panel import SLOW_FAILURE, record

pytestmark = pytest.mark.browser

# A headless browser shows no notification: ours are written down. Away is another tab in front.
NOTICES = """
globalThis.forgeNotices = [];
globalThis.Notification = class {
  static permission = "default";
  static async requestPermission() { return (this.permission = "granted"); }
  constructor(title, { body }) { globalThis.forgeNotices.push(`${title}: ${body}`); }
};
const away = () => globalThis.forgeAway === true ? "hidden" : "visible";
Object.defineProperty(document, "visibilityState", { get: away });
"""
TOLD = "Doomed: Training failed: RuntimeError: no more data"
HAS_TOLD = f"() => globalThis.forgeNotices.includes({TOLD!r})"
COMMANDS = (
    "Show Training Sessions",
    "Open Training Session",
    "Compare Training Sessions",
    "Notify Me of Trainings in the Background",
)
SETTINGS = "forge-notebook:plugin"


def open_lab(page: Page, lab: Lab) -> None:
    page.goto(f"{lab.url}lab?token={lab.token}&reset")
    page.wait_for_function(
        "() => window.jupyterapp?.commands.hasCommand('forge-notebook:open-panel')"
    )
    page.wait_for_timeout(1000)


def change_settings(lab: Lab, **settings: bool) -> None:
    request = urllib.request.Request(
        f"{lab.url}lab/api/settings/{SETTINGS}",
        method="PUT",
        data=json.dumps({"raw": json.dumps(settings)}).encode(),
        headers={"Authorization": f"token {lab.token}"},
    )
    urllib.request.urlopen(request, timeout=20).close()


def test_commands_have_names_and_the_browser_tells_only_who_asked_and_is_away(
    lab: Lab, page: Page
) -> None:
    # Allowed is not asked for: the permission may be from before, the setting is off.
    page.add_init_script(NOTICES + "Notification.permission = 'granted';")
    open_lab(page, lab)
    labels = "() => window.jupyterapp.commands.listCommands()"
    labels += ".filter(id => id.startsWith('forge-notebook:'))"
    labels += ".map(id => window.jupyterapp.commands.label(id))"
    assert sorted(page.evaluate(labels)) == sorted(COMMANDS)

    page.evaluate("() => { globalThis.forgeAway = true; }")
    record(lab, SLOW_FAILURE)
    expect(page.get_by_text(TOLD).first).to_be_visible()
    assert page.evaluate("() => globalThis.forgeNotices") == []  # nobody asked

    page.evaluate(
        "() => window.jupyterapp.commands.execute('forge-notebook:browser-notifications')"
    )
    saved = lab.root.parent / "settings" / "forge-notebook" / "plugin.jupyterlab-settings"
    wait_until(page, lambda: saved.exists() and '"browserNotifications": true' in saved.read_text())
    page.evaluate("() => { globalThis.forgeAway = false; }")
    record(lab, SLOW_FAILURE)
    page.wait_for_timeout(1500)
    assert page.evaluate("() => globalThis.forgeNotices") == []  # the page is in front
    page.evaluate("() => { globalThis.forgeAway = true; }")
    record(lab, SLOW_FAILURE)
    page.wait_for_function(HAS_TOLD)


def test_notifications_of_jupyterlab_can_be_switched_off(lab: Lab, page: Page) -> None:
    change_settings(lab, notifications=False, browserNotifications=True)
    page.add_init_script(NOTICES + "Notification.permission = 'granted'; forgeAway = true;")
    open_lab(page, lab)
    record(lab, SLOW_FAILURE)
    page.wait_for_function(HAS_TOLD)
    page.wait_for_timeout(500)
    assert page.get_by_text(TOLD).count() == 0


def test_the_page_asks_tells_and_moves_nothing_for_who_wants_no_motion(
    lab: Lab, page: Page
) -> None:
    page.add_init_script(NOTICES)
    with training(lab.store, RUN):
        session = lab.session()["sessionId"]
        page.goto(f"{lab.url}forge?session={session}&token={lab.token}")
        wait_for_points(page, 10, where="body")
        moves = """() => [
          getComputedStyle(document.querySelector(".jp-ForgeCard .forge-fill")).transitionDuration,
          getComputedStyle(document.querySelector(".jp-ForgeCard .forge-link"), "::before")
            .animationName]"""
        assert page.evaluate(moves)[0] != "0s"
        page.emulate_media(reduced_motion="reduce")
        assert page.evaluate(moves) == ["0s", "none"]
    notify = page.get_by_role("button", name="Notify me")
    notify.click()
    expect(notify).to_be_hidden()
    page.evaluate("() => { globalThis.forgeAway = true; }")
    record(lab, SLOW_FAILURE)
    page.wait_for_function(HAS_TOLD)
