"""The exported page in a real browser: draws without a network, shows hostile text as text."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

import forge_notebook as forge

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.browser
def test_the_page_draws_by_itself(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    session = forge.session("<img src=x onerror=alert(1)>", config={"<b>": "<script>"})
    for step in range(5000):
        session.log(step, loss=math.exp(-step / 900), lr=0.1)
    session.log(5000, loss=math.nan)
    session.finish()
    file = forge.load(session.id).export(tmp_path / "run.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append("script ran"))
        page.goto(file.as_uri())
        page.wait_for_selector("#chart .scatterlayer .trace path.js-line")
        assert page.inner_text("#name") == "<img src=x onerror=alert(1)>"
        assert "loss is NaN at step 5000" in page.inner_text("#points")
        page.check("label:has-text('lr') input")
        page.wait_for_function(
            "document.querySelectorAll('#chart .scatterlayer .trace').length == 2"
        )
        page.screenshot(path=str(tmp_path / "page.png"))
        browser.close()
    assert problems == []
