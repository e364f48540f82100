"""The card's own means: zoom, axes, control, files, and what it costs to leave it open."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import forge_notebook
from tests.ui.conftest import Lab, open_notebook, run_all, training, wait_for_points

pytestmark = pytest.mark.browser
PACKAGE = Path(forge_notebook.__file__).parent

BLOCKING = """
import time
import forge_notebook as forge
session = forge.session("Blocking", total_steps=30_000, config={"learning_rate": 0.01})
display(session)
for step in range(1, 20_001):
    session.log(step, loss=1 + step % 7, epoch=step / 1000)
for step in range(20_001, 30_001):
    session.log(step, loss=1 + step % 7, epoch=step / 1000)
    time.sleep(0.05)
    if (command := session.next_command()) is not None:
        if command.name == "set":
            command.ack(True, f"learning_rate {command.args['learning_rate']:g}")
        else:
            command.ack(True)
            break
session.finish("stopped")
"""


def test_zoom_axes_files_and_learning_rate_while_the_cell_blocks(lab: Lab, page: Page) -> None:
    open_notebook(page, lab, lab.notebook("blocking.ipynb", BLOCKING))
    run_all(page)
    thin = wait_for_points(page, 100)
    card = page.locator(".forge-cell .jp-ForgeCard").first
    plot = card.locator(".nsewdrag").first
    card.locator(".forge-plot").scroll_into_view_if_needed()  # its inside is drawn anew
    box = plot.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    with page.expect_response(lambda r: "/series/" in r.url) as asked:
        page.mouse.move(box["x"] + box["width"] * 0.30, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.31, middle, steps=5)
        page.mouse.up()
    answer = asked.value
    assert answer.status == 200
    (block,) = [b for b in answer.json()["data"]["series"] if b["columns"] == ["loss"]]
    # Every step of the window, where the overview had one in forty.
    assert block["step"] == list(range(block["step"][0], block["step"][-1] + 1))
    assert 50 < len(block["step"]) < 800
    expect(card.get_by_role("button", name="Reset zoom")).to_be_visible()
    card.get_by_role("button", name="Reset zoom").click()
    assert wait_for_points(page, 100) <= thin + 900

    card.get_by_label("Horizontal axis").select_option("epoch")
    expect(card.locator(".xtick").last).to_contain_text(re.compile(r"^\d\d?$"))
    card.get_by_role("button", name="log x").click()
    expect(card.get_by_role("button", name="log x")).to_have_attribute("aria-pressed", "true")
    wait_for_points(page, 100)

    for ending, start in (("CSV", b"model,metric,step"), ("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        card.locator("summary", has_text="Save").click()
        with page.expect_download() as download:
            card.get_by_role("button", name=ending).click()
        assert download.value.suggested_filename == f"Blocking.{ending.lower()}"
        assert Path(download.value.path()).read_bytes().startswith(start)

    card.get_by_role("button", name="Learning rate").click()
    card.get_by_label("New learning rate").fill("2e-3")
    card.get_by_label("New learning rate").press("Enter")
    expect(card.get_by_text("learning_rate 0.002")).to_be_visible()


RUN = """
import time
import forge_notebook as forge
session = forge.session("Run", total_steps=400)
for step in range(1, 401):
    session.log(step, loss=400 / step * (1 + step % 2), lr=0.1)
    time.sleep(0.03)
"""


def test_the_pointer_reads_all_panels_at_one_step(lab: Lab, page: Page) -> None:
    with training(lab.store, RUN):
        session = lab.session()["sessionId"]
        page.goto(f"{lab.url}forge?session={session}&token={lab.token}")
        wait_for_points(page, 20, where="body")
        page.get_by_role("group", name="Further metrics").get_by_role("button", name="lr").click()
        expect(page.locator(".subplot.xy4")).to_have_count(1)
        box = page.locator(".nsewdrag").first.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        hover = page.locator(".hoverlayer .legend")
        expect(hover).to_contain_text("train")
        expect(hover).to_contain_text("lr")
        expect(hover).to_contain_text("step ")


def test_half_an_hour_at_ten_updates_a_second_keeps_the_heap_bounded(lab: Lab, page: Page) -> None:
    page.goto(f"{lab.url}forge?token={lab.token}")
    (card,) = (PACKAGE / "static").glob("card-*.mjs")
    page.evaluate((PACKAGE / "bench" / "card.js").read_text(), ["/base/", card.name])
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable")

    def weigh(updates: int) -> tuple[float, int, int]:
        page.evaluate("count => globalThis.forgeBench.feed(count)", updates)
        page.wait_for_timeout(400)
        cdp.send("HeapProfiler.collectGarbage")
        metrics = {m["name"]: m["value"] for m in cdp.send("Performance.getMetrics")["metrics"]}
        return metrics["JSHeapUsedSize"] / 1e6, metrics["Nodes"], metrics["JSEventListeners"]

    # The heap still grows a little, ever slower: after 12,000 updates it is past the warm-up.
    heap, nodes, listeners = weigh(12_000)
    later_heap, later_nodes, later_listeners = weigh(18_000)
    print(f"heap {heap:.1f} -> {later_heap:.1f} MB, nodes {nodes} -> {later_nodes}")
    assert page.evaluate("() => globalThis.forgeBench.points()") > 300
    assert later_heap < heap + 2.2
    assert later_nodes < nodes * 1.1 + 100
    assert later_listeners <= listeners + 10
