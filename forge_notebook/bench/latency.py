"""How long a row takes from ``log()`` to whoever watches, at ten rows a second: to the hands of a
client, and to the pixels of the card in the cell."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from forge_notebook.bench import Row, lab_page
from forge_notebook.bench.fanout import STREAM, serving
from forge_notebook.recording import Session

PERIOD_S = 0.1

# Logs ten rows a second once the page says so, and keeps when: the clock is the page's as well.
_KERNEL = """
import json, threading, time
from pathlib import Path
import forge_notebook as forge
session, folder = forge.session("bench", total_steps=TIMES + 1), Path(FOLDER)
session.log(0, loss=2.0)
session.log(1, loss=1.5)

def go():
    while not (folder / "go").exists():
        time.sleep(0.05)
    sent = {}
    for step in range(2, TIMES + 2):
        sent[step] = 1000 * time.time()
        session.log(step, loss=1 + 1 / (step + 1))
        time.sleep(PERIOD_S)
    (folder / "sent").write_text(json.dumps(sent))

threading.Thread(target=go, daemon=True).start()
session
"""

# A curve that changed in one frame is on the screen when the next begins. The step in the text is
# painted no later than the curve that holds it.
_PAGE = r"""() => {
  const seen = globalThis.forgeSeen = [];
  const card = document.querySelector(".forge-cell");
  new MutationObserver((changes) => {
    if (!changes.some(({ target }) => target.matches("path.js-line"))) return;
    const step = Number(/step ([\d,]+)/.exec(card.textContent)?.[1].replaceAll(",", ""));
    requestAnimationFrame(() => seen.push([step, Date.now()]));
  }).observe(card, { subtree: true, attributes: true, attributeFilter: ["d"] });
}"""


def measure(*, quick: bool, peers: Sequence[str]) -> list[Row]:
    """ms from the call to the message, and to the frame after the one that drew it."""
    return [*_client(quick), *_pixels(quick)]


def _client(quick: bool) -> list[Row]:
    """ms from ``log()`` in one process to the message in another's hands, at 10 Hz."""
    with tempfile.TemporaryDirectory() as store:
        session = Session("bench", store=store)
        found = asyncio.run(_received(session, store, 30 if quick else 200))
        session.finish()
    found.sort()
    return [
        Row("log() to a client, p50", statistics.median(found), "ms", goal=40.0),
        Row("log() to a client, p95", found[int(len(found) * 0.95)], "ms", goal=120.0),
    ]


async def _received(session: Session, store: str, times: int) -> list[float]:
    from tornado.websocket import websocket_connect

    with serving("ours", store) as server:
        client = await websocket_connect(f"ws://127.0.0.1:{server.port}{STREAM}")
        await client.write_message(_subscribe(session.id))
        await client.read_message()
        logger = threading.Thread(target=_log, args=(session, times), daemon=True)
        logger.start()
        found: list[float] = []
        while len(found) < times:
            text = await asyncio.wait_for(client.read_message(), 30)
            now = time.monotonic()
            for block in json.loads(text or "{}")["data"].get("series", []):
                sent = block["values"][block["columns"].index("sent")]
                found += [1000 * (now - one) for one in sent]
        client.close()
    return found


def _log(session: Session, times: int) -> None:
    for _ in range(times):
        session.log(loss=1.0, sent=time.monotonic())
        time.sleep(PERIOD_S)


def _subscribe(session_id: str) -> str:
    data = {"sessionId": session_id}
    return json.dumps({"event": "subscribe_session", "data": data})


def _pixels(quick: bool) -> list[Row]:
    """p50 and p95 in ms at ten rows a second, in JupyterLab with a real browser."""
    times = 50 if quick else 300
    with tempfile.TemporaryDirectory() as folder, lab_page.server(Path(folder)) as server:
        code = f"TIMES, PERIOD_S, FOLDER = {times}, {PERIOD_S}, {folder!r}\n{_KERNEL}"
        shown = ".forge-cell path.js-line"
        with lab_page.running(lab_page.browser(), server, "pixels", code, shown) as page:
            page.wait_for_timeout(3000)  # JupyterLab settles
            page.evaluate(_PAGE)
            (Path(folder) / "go").touch()
            while not (Path(folder) / "sent").exists():
                page.wait_for_timeout(200)
            page.wait_for_timeout(2500)
            seen = page.evaluate("() => globalThis.forgeSeen")
        sent = json.loads((Path(folder) / "sent").read_text())
    found = sorted(_delays({int(step): at for step, at in sent.items()}, seen))
    return [
        Row("log() to pixels in the cell, p50", statistics.median(found), "ms", goal=100.0),
        Row("log() to pixels in the cell, p95", found[int(0.95 * len(found))], "ms", goal=250.0),
    ]


def _delays(sent: dict[int, float], seen: list[tuple[int, float]]) -> list[float]:
    """For each step the time until the first curve that held it; an error where none did."""
    delays = []
    for step, at in sent.items():
        painted = next((when for until, when in seen if until >= step), None)
        if painted is None:
            raise RuntimeError(f"step {step} of {len(sent)} was never drawn: {seen[-3:]}")
        delays.append(painted - at)
    return delays
