"""The side panel and the page: compare, delete, restore, notify; accessible in both themes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.ui.conftest import Lab, open_notebook, run_all, training, wait_for_points

pytestmark = pytest.mark.browser
AXE = Path(__file__).parents[2] / "js" / "node_modules" / "axe-core" / "axe.min.js"

THREE = """
import forge_notebook as forge
for run in range(3):
    with forge.session(f"Run {run}", total_steps=100, config={"lr": 10.0 ** -run}) as session:
        for step in range(1, 101):
            session.log(step, loss=(run + 1) * 100 / step * (1 + step % 2),
                        val_loss=120 / step, lr=0.1)
        session.event("checkpoint_saved", step=50, path="x")
"""
LIVE = """
import time
import forge_notebook as forge
session = forge.session("Live", models=2, total_steps=4000, config={"learning_rate": 0.1})
for step in range(1, 4001):
    for model in range(2):
        session.log(step, model=model, loss=4000 / step * (1 + step % 2), val_loss=5000 / step,
                    accuracy=0.5, val_accuracy=0.4, rank_val=0.3, lr=0.1, grad_norm=1.0)
    if session.should_stop:
        break
    time.sleep(0.03)
"""


def record(lab: Lab, code: str) -> None:
    with training(lab.store, code) as process:
        assert process.wait(60) == 0


def test_sessions_are_compared_deleted_and_the_layout_comes_back(lab: Lab, page: Page) -> None:
    record(lab, THREE)
    page.goto(f"{lab.url}lab?token={lab.token}&reset")
    page.wait_for_function(
        "() => window.jupyterapp?.commands.hasCommand('forge-notebook:compare-sessions')"
    )
    page.evaluate("() => window.jupyterapp.commands.execute('forge-notebook:open-panel')")
    panel = page.locator(".jp-ForgePanel")
    for run in (0, 2):
        panel.get_by_label(f"Tick Run {run}").check()
    panel.get_by_role("button", name="Compare").click()
    comparison = page.locator(".jp-ForgeCompare")
    expect(comparison.get_by_role("heading")).to_have_text("2 sessions compared")
    wait_for_points(page, 80, where=".jp-ForgeCompare")
    expect(comparison.locator("path.js-line")).to_have_count(2)
    settings = comparison.locator(".forge-legend-settings")
    expect(settings).to_have_text(["lr 1", "lr 0.01"])

    panel.get_by_role("button", name="Clear").click()
    panel.get_by_label("Tick Run 1").check()
    panel.get_by_role("button", name="Delete").click()
    assert len(lab.api("sessions")) == 3
    panel.get_by_role("button", name="Delete for good").click()
    expect(panel.get_by_text("Run 1")).to_have_count(0)
    assert [s["name"] for s in lab.api("sessions")] == ["Run 2", "Run 0"]

    page.wait_for_timeout(2500)  # JupyterLab saves its layout a little after each change
    page.goto(f"{lab.url}lab")
    expect(page.locator(".jp-ForgeCompare").get_by_role("heading")).to_have_text(
        "2 sessions compared", timeout=30_000
    )
    expect(page.locator(".jp-ForgePanel").get_by_text("Run 2").first).to_be_visible()


def test_the_page_without_sessions_says_how_to_begin_also_on_a_phone(lab: Lab, page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 780})
    page.goto(f"{lab.url}forge?token={lab.token}")
    first = page.locator("main pre")
    expect(first).to_be_visible()
    assert violations(page) == []
    assert first.evaluate("pre => pre.scrollWidth - pre.clientWidth") <= 0
    code = first.inner_text()
    record(lab, f"train_step = lambda: 1.0\n{code}")  # what it says runs
    expect(page.locator(".jp-ForgeCard .forge-name")).to_have_text("my run", timeout=20_000)
    expect(first).to_be_hidden()


def test_ten_sessions_are_compared_and_an_eleventh_is_refused(lab: Lab, page: Page) -> None:
    record(lab, THREE.replace("range(3)", "range(11)"))
    page.goto(f"{lab.url}forge?token={lab.token}")
    for run in range(10):
        page.get_by_label(f"Tick Run {run}", exact=True).check()
    page.get_by_role("button", name="Compare").click()
    comparison = page.locator(".jp-ForgeCompare")
    wait_for_points(page, 80, where=".jp-ForgeCompare")
    expect(comparison.locator("path.js-line")).to_have_count(10)
    looks = comparison.locator("path.js-line").evaluate_all(
        """curves => curves.map(c => getComputedStyle(c).stroke
                                     + getComputedStyle(c).strokeDasharray)"""
    )
    assert len(set(looks)) == 10  # each told from the others
    names = comparison.locator(".forge-legend-name")
    assert names.all_inner_texts() == [f"Run {run}" for run in range(10)]

    page.get_by_label("Tick Run 10").check()
    expect(page.get_by_text("11 ticked, at most 10 can be compared")).to_be_visible()
    expect(page.get_by_role("button", name="Compare")).to_be_disabled()


def test_the_end_of_a_training_is_told(lab: Lab, page: Page) -> None:
    page.goto(f"{lab.url}lab?token={lab.token}&reset")
    page.wait_for_function(
        "() => window.jupyterapp?.commands.hasCommand('forge-notebook:open-panel')"
    )
    page.wait_for_timeout(1000)
    record(lab, SLOW_FAILURE)
    toast = page.get_by_text("Doomed: Training failed: RuntimeError: no more data")
    expect(toast.first).to_be_visible()


def test_an_alert_the_onset_of_grokking_and_a_good_end_are_told(lab: Lab, page: Page) -> None:
    page.goto(f"{lab.url}lab?token={lab.token}&reset")
    page.wait_for_function(
        "() => window.jupyterapp?.commands.hasCommand('forge-notebook:open-panel')"
    )
    page.wait_for_timeout(1000)
    page.evaluate(KEEP_TOASTS)
    with training(lab.store, GROKS) as process:
        toasts = "globalThis.forgeToasts.join('\\n')"
        page.wait_for_function(f"() => {toasts}.includes('Groks: model 1 began to generalize')")
        page.wait_for_function(f"() => {toasts}.includes('Groks: grad_norm is NaN')")
        (lab.store / "go").touch()
        assert process.wait(20) == 0
        end = page.get_by_text("Groks: Training completed")
        expect(end.first).to_be_visible(timeout=20_000)
    told = [t for t in page.evaluate("() => globalThis.forgeToasts") if t.startswith("Groks")]
    assert len(told) == 3, told  # each once
    page.locator(".Toastify__toast", has=end).get_by_role("button", name="Open").click()
    expect(page.locator(".jp-ForgeTab .forge-name")).to_have_text("Groks")


# A toast goes after some seconds.
KEEP_TOASTS = """() => {
  globalThis.forgeToasts = [];
  new MutationObserver(() => document.querySelectorAll(".Toastify__toast").forEach((node) => {
    const text = node.textContent ?? "";
    if (!globalThis.forgeToasts.includes(text)) globalThis.forgeToasts.push(text);
  })).observe(document.body, { childList: true, subtree: true });
}"""
GROKS = """
import time
import forge_notebook as forge
with forge.session("Groks", total_steps=400) as session:
    for step in range(1, 400):
        session.log(step, loss=0.1, grad_norm=float("nan") if step == 9 else 1.0,
                    rank_train=0.99, rank_val=0.02 if step < 200 else 0.9)
        time.sleep(0.02)
    while not (session.store / "go").exists():
        time.sleep(0.05)
"""

SLOW_FAILURE = """
import time
import forge_notebook as forge
try:
    with forge.session("Doomed", total_steps=100) as session:
        for step in range(1, 60):
            session.log(step, loss=1.0)
            time.sleep(0.05)
        raise RuntimeError("no more data")
except RuntimeError:
    pass
"""


def violations(page: Page, *within: str) -> list[str]:
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text())
    found = page.evaluate(
        """(within) => axe.run(within.length ? {include: within.map(css => [css])} : document)""",
        list(within),
    )
    return [
        f"{v['id']}: {node['target']} {node['failureSummary']}"
        for v in found["violations"]
        for node in v["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page(lab: Lab, page: Page, scheme: Any) -> None:
    record(lab, THREE)
    page.emulate_media(color_scheme=scheme)
    with training(lab.store, LIVE):
        session = next(s for s in [lab.session()] if s)
        while session["name"] != "Live":
            time.sleep(0.2)
            session = lab.session()
        page.goto(f"{lab.url}forge?session={session['sessionId']}&token={lab.token}")
        wait_for_points(page, 20, where="body")
        page.get_by_label("Tick Run 1").check()
        page.get_by_role("button", name="grad_norm").click()
        page.locator("summary", has_text="Configuration").click()
        page.locator("summary", has_text="Save").click()
        assert violations(page) == []
        page.set_viewport_size({"width": 360, "height": 780})
        page.wait_for_timeout(500)
        assert violations(page) == []
        page.wait_for_function("() => document.documentElement.scrollWidth <= 360")
        page.get_by_role("button", name="Sessions").click()
        assert violations(page) == []


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_nothing_in_jupyterlab_and_the_keyboard_reaches_everything(
    lab: Lab, page: Page, theme: str
) -> None:
    record(lab, THREE)
    open_notebook(page, lab, lab.notebook("live.ipynb", IN_CELL))
    page.evaluate(
        "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme
    )
    run_all(page)
    wait_for_points(page, 10)
    page.evaluate("() => window.jupyterapp.commands.execute('forge-notebook:open-panel')")
    expect(page.locator(".jp-ForgePanel").get_by_text("Run 1")).to_be_visible()
    page.locator(".jp-ForgePanel").get_by_label("Tick Run 1").check()
    page.wait_for_timeout(500)
    assert violations(page, ".jp-ForgePanel", ".forge-cell") == []

    reached = set()
    page.locator(".forge-cell input[type=range]").first.focus()
    # A ring is for whoever came by the keyboard.
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    for _ in range(26):
        reached.add(
            page.evaluate(
                """() => { const node = document.activeElement;
                   if (node.closest('.forge-cell') === null) return '';
                   const ring = getComputedStyle(node).outlineStyle;
                   return ring === 'none' ? `NO FOCUS RING ${node.className}`
                     : (node.getAttribute('aria-label') ?? node.textContent).trim(); }"""
            )
        )
        page.keyboard.press("Tab")
    names = {"Smoothing", "Horizontal axis", "log x", "log y", "Save", "Pause", "Checkpoint",
             "Learning rate", "Stop", "Configuration"}  # fmt: skip
    assert names - reached == set(), reached
    assert not [name for name in reached if name.startswith("NO FOCUS RING")]


IN_CELL = f"""
import threading
display_only = {LIVE!r}.replace("for step", "display(session)\\nfor step", 1)
threading.Thread(target=exec, args=(display_only, globals()), daemon=True).start()
import time
while "session" not in globals():
    time.sleep(0.1)
time.sleep(2)
import forge_notebook as forge
forge.watch(session.id)
"""
