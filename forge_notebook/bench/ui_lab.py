"""Our card beside a FigureWidget with the same work, in one JupyterLab: a run of 10,000 rows with
four metrics goes on by ten rows twice a second, and each shows it live."""

from __future__ import annotations

import base64
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forge_notebook.bench import Row
from forge_notebook.cli._jupyter import Server, jupyter_server

_IDLE = """() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status
              === 'idle'"""
ROWS, MORE, PERIOD_S = 10_000, 10, 0.5
SETTLED_S = 4.0

# Both cells: show it, wait for `go`, add rows, write down what an update cost in the kernel.
_BOTH = f"""
import json, threading, time
from pathlib import Path
import forge_notebook as forge
ROWS, MORE, PERIOD_S = {ROWS}, {MORE}, {PERIOD_S}
NAMES = ["loss", "val_loss", "accuracy", "val_accuracy"]

def row(i):
    return 10 / (i + 9), 12 / (i + 9), i / (i + 900), i / (i + 2000)

def go_on(folder, update, costs):
    folder = Path(folder)
    while not (folder / "go").exists():
        time.sleep(0.05)
    for at in range(ROWS, ROWS + MORE * json.loads((folder / "go").read_text()), MORE):
        update([row(i) for i in range(at, at + MORE)], at)
        time.sleep(PERIOD_S)
    (folder / "done").write_text(json.dumps(costs))
"""
_FIGURE = """
import plotly.graph_objects as go
begun = [row(i) for i in range(ROWS)]
figure = go.FigureWidget(layout=dict(width=860, height=380, yaxis=dict(type="log")))
for k, name in enumerate(NAMES):
    figure.add_scatter(x=list(range(ROWS)), y=[r[k] for r in begun], name=name, mode="lines")
figure_costs = []

def extend(rows, at):
    began = time.thread_time()
    steps = list(range(at, at + len(rows)))
    with figure.batch_update():
        for k, trace in enumerate(figure.data):
            trace.x = [*trace.x, *steps]
            trace.y = [*trace.y, *(r[k] for r in rows)]
    figure_costs.append(time.thread_time() - began)

threading.Thread(target=go_on, args=(FOLDER, extend, figure_costs), daemon=True).start()
figure
"""
_CARD = """
session = forge.session("bench")
for i in range(ROWS):
    session.log(i, **dict(zip(NAMES, row(i))))
card, card_costs = session.widget, []
publish = card.publish

def timed():
    began, told = time.thread_time(), card._follower.sent
    publish()
    if card._follower.sent > told:  # it looks ten times a second; finding nothing is no update
        card_costs.append(time.thread_time() - began)

card.publish = timed

def log(rows, at):
    for i, values in enumerate(rows):
        session.log(at + i, **dict(zip(NAMES, values)))

threading.Thread(target=go_on, args=(FOLDER, log, card_costs), daemon=True).start()
card
"""


@dataclass
class Cost:
    """What one update costs: mean CPU of the main thread, bytes, median CPU in the kernel."""

    page_ms: float
    wire_kb: float
    kernel_ms: float


def measure(browser: str, *, quick: bool) -> list[Row]:
    """The rows of both; RuntimeError where JupyterLab or playwright is missing."""
    times = 12 if quick else 60
    with tempfile.TemporaryDirectory() as folder, _lab(Path(folder)) as server:
        cost = {}
        for name, code, shown in (
            ("figure", _FIGURE, ".js-plotly-plot path.js-line"),
            ("card", _CARD, ".forge-cell path.js-line"),
        ):
            place = Path(folder) / f"bench-{name}"
            place.mkdir()
            notebook = _notebook(server, name, f"{_BOTH}\nFOLDER = {str(place)!r}\n{code}")
            with _opened(browser, server, notebook) as page:
                page.locator(".jp-Notebook .cm-content").first.click()
                page.keyboard.press("Control+Enter")
                page.wait_for_selector(shown, state="attached", timeout=120_000)
                cost[name] = _cost(page, place, times)
    ours, theirs = cost["card"], cost["figure"]
    peer = f"FigureWidget, 4 x {ROWS:,} points"
    what = "update in JupyterLab after 10,000 rows"
    return [
        Row(f"{what}, main thread, mean", ours.page_ms, "ms", peer, theirs.page_ms),
        Row(f"{what}, received by the page", ours.wire_kb, "kB", peer, theirs.wire_kb),
        Row(f"{what}, kernel CPU, p50", ours.kernel_ms, "ms", peer, theirs.kernel_ms),
    ]


def _lab(store: Path) -> AbstractContextManager[Server]:
    return jupyter_server(store, "--LabApp.expose_app_in_browser=True")


def _notebook(server: Server, name: str, code: str) -> str:
    cell: dict[str, Any] = {
        "cell_type": "code",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    content = {
        "nbformat": 4, "nbformat_minor": 5, "metadata": kernel,
        "cells": [{**cell, "id": "bench", "source": code}],
    }  # fmt: skip
    path = f"{name}.ipynb"
    body = {"type": "notebook", "format": "json", "content": content}
    server.request("PUT", f"api/contents/{path}", body)
    return path


@contextmanager
def _opened(browser: str, server: Server, notebook: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        # High enough for the cell and its output: our card does not draw what nobody sees.
        page = launched.new_page(viewport={"width": 1440, "height": 2000})
        page.goto(f"{server.url}lab/tree/{notebook}?token={server.token}&reset")
        page.wait_for_selector(".jp-Notebook .cm-content")
        page.wait_for_function(_IDLE)
        yield page
        launched.close()


def _cost(page: Any, place: Path, times: int) -> Cost:
    cdp = page.context.new_cdp_session(page)
    received = [0]

    def count(frame: dict[str, Any]) -> None:
        payload = frame["response"]["payloadData"]
        binary = frame["response"]["opcode"] == 2
        received[0] += len(base64.b64decode(payload) if binary else payload.encode())

    cdp.on("Network.webSocketFrameReceived", count)
    cdp.send("Network.enable")
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})

    def now() -> tuple[float, float, int]:
        found = {m["name"]: m["value"] for m in cdp.send("Performance.getMetrics")["metrics"]}
        return time.monotonic(), found["TaskDuration"], received[0]

    page.wait_for_timeout(1000 * SETTLED_S)
    idle = [now()]
    page.wait_for_timeout(1000 * SETTLED_S)
    idle.append(now())
    (place / "go").write_text(str(times))
    busy = [now()]
    while not (place / "done").exists():
        page.wait_for_timeout(100)
    busy.append(now())
    quiet_s, quiet_cpu, quiet_bytes = (b - a for a, b in zip(*idle, strict=True))
    spent_s, spent_cpu, spent_bytes = (b - a for a, b in zip(*busy, strict=True))
    share = spent_s / quiet_s  # JupyterLab does things of its own meanwhile
    return Cost(
        1e3 * (spent_cpu - share * quiet_cpu) / times,
        (spent_bytes - share * quiet_bytes) / 1e3 / times,
        1e3 * statistics.median(json.loads((place / "done").read_text())),
    )
