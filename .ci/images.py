"""Takes the pictures of the README from real trainings in a real browser: `make images`.

    python .ci/images.py [folder] [--store FOLDER]

With --look it takes every view in both themes at four widths instead, to be looked at. With --store
it looks at the sessions that are there instead of training.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from forge_notebook.bench import lab_page
from forge_notebook.cli._jupyter import Server, kernel_of

IMAGES = Path(__file__).parent.parent / "notebooks" / "images"
WIDTHS = (360, 768, 1200, 1600)

TRAIN = """
import forge_notebook as forge
grok = forge.CognateTrainer(forge.TrainingConfig.demo("grok"), name="Modular addition that groks")
grok.start().wait()
text = forge.CognateTrainer(forge.TrainingConfig.demo("text"), name="Three Cognate models on text")
text.start().wait(TEXT_S)  # it may still be running on the pictures
"""
TEXT_S = 150
CELL = """import forge_notebook as forge

trainer = forge.CognateTrainer(forge.TrainingConfig.demo("grok"), name="Live in the cell")
trainer.start()"""


def main() -> None:
    """Train, then look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=IMAGES)
    parser.add_argument("--look", action="store_true")
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    executable = lab_page.browser()
    with (
        tempfile.TemporaryDirectory() as made,
        lab_page.server(arguments.store or Path(made)) as server,
        kernel_of(server) as kernel,
        sync_playwright() as playwright,
    ):
        if arguments.store is None:
            kernel.execute_interactive(TRAIN.replace("TEXT_S", str(TEXT_S)), timeout=900)
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        take = Taker(server, browser, arguments.folder)
        if arguments.look:
            take.everything()
        else:
            take.for_the_readme()
        browser.close()


class Taker:
    """Opens views and saves pictures of them."""

    def __init__(self, server: Server, browser: Browser, folder: Path) -> None:
        self.server, self.browser, self.folder = server, browser, folder

    def for_the_readme(self) -> None:
        """The four pictures."""
        for scheme in ("light", "dark"):
            with self.opened("forge", 1320, 1000, scheme) as page:
                self.select(page, "Modular addition")
                page.locator(".jp-ForgeCard").screenshot(path=self.folder / f"card-{scheme}.png")
        with self.opened("forge", 1280, 900, "dark") as page:
            self.select(page, "Three Cognate")
            page.screenshot(path=self.folder / "page.png")
        with self.lab(1400, 900) as page:
            page.screenshot(path=self.folder / "panel.png")

    def everything(self) -> None:
        """Each view, light and dark, from a phone to a wide screen."""
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                with self.opened("forge", width, 1000, scheme) as page:
                    page.screenshot(path=self.folder / f"list-{width}-{scheme}.png")
                    self.select(page, "Modular addition")
                    self.whole(page, f"grok-{width}-{scheme}")
                with self.opened("forge", width, 1000, scheme) as page:
                    for tick in page.get_by_role("checkbox").all()[:2]:
                        tick.check()
                    page.get_by_role("button", name="Compare").click()
                    page.wait_for_timeout(2000)
                    self.whole(page, f"compare-{width}-{scheme}")
        for width in WIDTHS[1:]:
            with self.lab(width, 1000) as page:
                page.screenshot(path=self.folder / f"lab-{width}-light.png")
                theme = {"theme": "JupyterLab Dark"}
                page.evaluate(
                    "(a) => window.jupyterapp.commands.execute('apputils:change-theme', a)", theme
                )
                page.wait_for_timeout(3000)
                page.screenshot(path=self.folder / f"lab-{width}-dark.png")

    def whole(self, page: Page, name: str) -> None:
        """The whole length of a page."""
        page.screenshot(path=self.folder / f"{name}.png", full_page=True)

    def select(self, page: Page, name: str) -> None:
        """Open the card of the session of that name, and wait until its curves are there."""
        page.locator("button.forge-row", has_text=name).first.click()
        page.wait_for_selector(".jp-ForgeCard path.js-line", state="attached")
        page.mouse.move(1, 1)
        page.wait_for_timeout(2500)

    @contextmanager
    def opened(self, path: str, width: int, height: int, scheme: Any) -> Iterator[Page]:
        """A page of the server in a browser of its own."""
        size = {"width": width, "height": height}
        context = self.browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{self.server.url}{path}?token={self.server.token}&reset")
        page.wait_for_selector("button.forge-row, .jp-Notebook .cm-content", state="attached")
        page.wait_for_timeout(1000)
        drawer = page.get_by_role("button", name="Sessions", exact=True)
        if path == "forge" and drawer.is_visible():
            drawer.click()  # on a phone
        yield page
        context.close()

    @contextmanager
    def lab(self, width: int, height: int) -> Iterator[Page]:
        """JupyterLab with a training in a cell, and the panel of all sessions beside it."""
        path = lab_page.notebook(self.server, "training", CELL)
        with self.opened(f"lab/tree/{path}", width, height, "light") as page:
            page.wait_for_function(lab_page.IDLE)
            page.add_style_tag(content=".Toastify { display: none; }")  # Jupyter's own questions
            for command in ("filebrowser:hide-main", "forge-notebook:open-panel"):
                page.evaluate("(c) => window.jupyterapp.commands.execute(c)", command)
            page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
            page.wait_for_selector(".forge-cell path.js-line", state="attached", timeout=90_000)
            page.wait_for_timeout(12_000)
            yield page
            page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")


if __name__ == "__main__":
    main()
