"""What a card costs on the page, in the kernel and over the wire, beside Plotly drawing the same
curves alone, and a FigureWidget in JupyterLab."""

from __future__ import annotations

import gzip
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forge_notebook.bench import Row, lab_page, median_of, ui_lab
from forge_notebook.recording import Session

PACKAGE = Path(__file__).parent.parent
STATIC = PACKAGE / "static"
HARNESS = (PACKAGE / "bench" / "card.js").read_text()


def measure(*, quick: bool, peers: Sequence[str]) -> list[Row]:
    """Kernel side always; the page side needs Chromium and playwright, and says so without."""
    rows = [*_sizes(), *_kernel(quick)]
    browser = lab_page.browser()
    rows += _page(browser, quick)
    if find_spec("jupyterlab") is not None:
        rows += ui_lab.measure(browser, quick=quick)
    return rows


def _sizes() -> list[Row]:
    (card,) = STATIC.glob("card-*.mjs")
    rows = []
    for name, path, goal in (
        ("widget module, sent for each card", STATIC / "widget.js", 10.0),
        ("card module, once per page", card, None),
        ("dashboard page's script", STATIC / "dashboard.js", None),
        ("plotly, once per page", STATIC / "plotly.mjs", None),
    ):
        raw = path.read_bytes()
        note = f"{len(gzip.compress(raw, 9)) / 1e3:.1f} kB compressed"
        rows.append(Row(name, len(raw) / 1e3, "kB", goal=goal, note=note))
    return rows


def _kernel(quick: bool) -> Iterator[Row]:
    """A delta of ten points as the publisher sends it."""
    from forge_notebook.core.follower import Follower
    from forge_notebook.core.wire import encode

    with tempfile.TemporaryDirectory() as folder:
        session = Session("bench", store=folder)
        follower = Follower(session.folder, keep_rows=0)
        follower.load()
        sizes, spent = [], []
        for batch in range(50 if quick else 500):
            for row in range(10):
                session.log(batch * 10 + row, loss=1.0 / (row + 1))
            session.flush()
            began = time.perf_counter()
            while follower.read():
                pass
            texts = [encode(event, data) for event, data in follower.messages()]
            spent.append(1e3 * (time.perf_counter() - began))
            sizes.append(sum(map(len, texts)))
        session.finish()
    yield Row("delta of 10 points, kernel side, p50", statistics.median(spent), "ms", goal=1.0)
    yield Row("delta of 10 points, on the wire", statistics.median(sizes), "bytes", goal=1024.0)


class _Files(SimpleHTTPRequestHandler):
    def translate_path(self, path: str) -> str:
        return str(STATIC / Path(path.split("?")[0]).name)

    def guess_type(self, path: Any) -> str:
        return "text/html" if str(path).endswith(".html") else "text/javascript"

    def log_message(self, format: str, *args: Any) -> None:
        """Not on the terminal of a benchmark."""


@contextmanager
def _server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(STATIC)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def _page(browser: str, quick: bool) -> list[Row]:
    from playwright.sync_api import sync_playwright

    (card,) = STATIC.glob("card-*.mjs")
    times = 10 if quick else 60
    with _server() as url, sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = launched.new_page(viewport={"width": 900, "height": 900})

        def fresh() -> Any:
            page.goto(f"{url}plotly.mjs")  # any page of that origin
            page.evaluate(HARNESS, ["/", card.name])
            page.evaluate("() => globalThis.forgeBench.fill(1)")
            page.wait_for_timeout(1500)
            return page

        def first_paint() -> float:
            return float(fresh().evaluate(_FILL))

        fill = median_of(first_paint, 3 if quick else 7)
        costs = sorted(_thread_ms(page, times, _OURS))
        page.evaluate(_PLOTLY)
        alone = sorted(_thread_ms(page, times, _ALONE))
        launched.close()
    what = "update of 4 traces x 800 points, main thread, p50"
    note = f"mean {statistics.mean(costs):.3g} ms: Plotly draws at least every two seconds"
    return [
        Row(what, costs[times // 2], "ms", "Plotly alone", alone[times // 2], 16.0, note=note),
        Row("back-fill of 4 x 100,000 points to first paint", fill, "ms", goal=500.0),
    ]


# The whole curve arrives at once; the time until its points are on the page.
_FILL = """async () => {
  const began = performance.now();
  globalThis.forgeBench.fill(100_000);
  while (globalThis.forgeBench.points() < 300) await globalThis.forgeBench.frame();
  return performance.now() - began;
}"""
_OURS = "() => globalThis.forgeBench.fill(10)"
# The floor of a chart that Plotly draws anew: the same number of points, one panel, nothing else.
_PLOTLY = """async () => {
  const plotly = (await globalThis.__forgePlotly).default;
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  const layout = (from) => ({ width: 860, height: 380, showlegend: false,
    xaxis: { range: [from, from + 800] }, yaxis: { type: "log", nticks: 4, range: [-3, 1] } });
  let from = 1;
  globalThis.forgePlotly = () => {
    from += 10;
    const x = Array.from({ length: 800 }, (_, i) => from + i);
    const trace = (a) => ({ type: "scatter", mode: "lines", x, y: x.map((s) => a / s + 0.01) });
    return plotly.react(el, [10, 12, 3, 4].map(trace), layout(from));
  };
  await globalThis.forgePlotly();
}"""
_ALONE = "() => globalThis.forgePlotly()"


def _thread_ms(page: Any, times: int, act: str) -> list[float]:
    """CPU of the page's main thread for one update each, text, layout and drawing included."""
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
    spent: Callable[[], float] = lambda: {  # noqa: E731
        m["name"]: m["value"] for m in cdp.send("Performance.getMetrics")["metrics"]
    }["TaskDuration"]
    costs = []
    for _ in range(times):
        page.wait_for_timeout(120)
        before = spent()
        page.evaluate(act)
        page.wait_for_timeout(250)
        costs.append(1e3 * (spent() - before))
    cdp.detach()
    return costs
