"""An existing dashboard in a real browser: SPEC's client on a page of another origin.

usage: python -m tests.server.dashboard_page FOLDER SERVER PAGE_PORT SESSION OPTIONS CHROMIUM
Prints what the page was told as JSON. A process of its own: Playwright's loop and pytest's do not
go together.
"""

from __future__ import annotations

import functools
import http.server
import json
import sys
import threading
from pathlib import Path

PAGE = """<!doctype html>
<script src="/node_modules/socket.io-client/dist/socket.io.min.js"></script>
<script>
window.told = [];
window.polled = [];
const server = SERVER, sessionId = SESSION;
const socket = io(server.replace("http", "ws"), OPTIONS);
socket.emit('subscribe_session', { sessionId });
socket.on('session_status', () => { window.subscribed = true; });
for (const name of ['training_started', 'progress_update', 'model_completed', 'training_completed'])
  socket.on(name, (data) => window.told.push([name, data.metrics]));
const startHttpPolling = async (id) => {
  const reply = await fetch(`${server}/api/training/metrics/${id}`);
  window.polled.push(await reply.json());
};
socket.on('disconnect', () => startHttpPolling(sessionId));
socket.on('training_completed', () => { window.transport = socket.io.engine.transport.name;
                                        socket.disconnect(); });
</script>"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the folder without a word."""

    def log_message(self, *arguments: object) -> None:
        pass


def main(folder: str, server: str, port: str, session: str, transports: str, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    page_text = PAGE.replace("SERVER", json.dumps(server)).replace("SESSION", json.dumps(session))
    page_text = page_text.replace("OPTIONS", transports)
    Path(folder, "dashboard.html").write_text(page_text)
    handler = functools.partial(Quiet, directory=folder)
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), handler)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://localhost:{port}/dashboard.html")
        page.wait_for_function("window.subscribed", timeout=30_000)
        print("ready", flush=True)
        page.wait_for_function("window.polled.length > 0", timeout=30_000)
        told = page.evaluate("({told, polled, transport: window.transport})")
        browser.close()
    pages.shutdown()
    pages.server_close()
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
