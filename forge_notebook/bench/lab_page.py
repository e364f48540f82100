"""A real JupyterLab in a real Chromium, with one cell that runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from forge_notebook.cli._jupyter import Server, jupyter_server

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
READY_MS = 120_000
IDLE = """() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status
              === 'idle'"""


def browser() -> str:
    """Chromium on this machine; RuntimeError where there is none."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        raise RuntimeError("this is measured in a real browser: install chromium")
    return found


def server(store: Path) -> AbstractContextManager[Server]:
    """JupyterLab on the given store."""
    return jupyter_server(store, {"LabApp": {"expose_app_in_browser": True}})


@contextmanager
def running(chromium: str, lab: Server, name: str, code: str, shown: str) -> Iterator[Any]:
    """A page with a notebook of one cell that was run, once its output shows the selector."""
    from playwright.sync_api import sync_playwright

    path = notebook(lab, name, code)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        # High enough for the cell and its output: our card does not draw what nobody sees.
        page = launched.new_page(viewport={"width": 1440, "height": 2000})
        page.goto(f"{lab.url}lab/tree/{path}?token={lab.token}&reset")
        page.wait_for_selector(".jp-Notebook .cm-content", timeout=READY_MS)
        page.wait_for_function(IDLE, timeout=READY_MS)
        page.locator(".jp-Notebook .cm-content").first.click()
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(shown, state="attached", timeout=READY_MS)
        yield page
        launched.close()


def notebook(lab: Server, name: str, code: str) -> str:
    """Write a notebook of one cell; its path."""
    cell: dict[str, Any] = {
        "cell_type": "code", "id": "bench", "source": code,
        "metadata": {}, "outputs": [], "execution_count": None,
    }  # fmt: skip
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    content = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": [cell]}
    path = f"{name}.ipynb"
    body = {"type": "notebook", "format": "json", "content": content}
    lab.request("PUT", f"api/contents/{path}", body)
    return path
