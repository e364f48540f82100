"""The servers that ``bench fanout`` compares, each a process of its own.

usage: python -m forge_notebook.bench.fanout_servers VARIANT
Prints its port; answers each line on stdin with its CPU seconds, its resident KB, and the longest
time in ms that its event loop was held since the last line. Updates begin with the first line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import tornado.ioloop
import tornado.web
import tornado.websocket
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

TICK_S = 0.1
LOOK_S = 0.005
# As long as one progress_update of ours with one loss.
UPDATE = {"event": "progress_update", "data": {"sessionId": "bench", "padding": "x" * 700}}
held_ms = 0.0
going = threading.Event()  # set by the first line on stdin: then the viewers are there
_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # some servers greet the world there


def answer_stdin() -> None:
    """Report cost to the parent; end with it."""
    global held_ms
    for _ in sys.stdin:
        going.set()
        with open("/proc/self/statm") as statm:
            resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
        print(json.dumps([time.process_time(), resident, held_ms]), file=_answers)
        held_ms = 0.0
    os._exit(0)


async def watch_loop() -> None:
    """How long the loop leaves others waiting: a kernel's channels wait as long."""
    global held_ms
    while True:
        began = time.monotonic()
        await asyncio.sleep(LOOK_S)
        held_ms = max(held_ms, (time.monotonic() - began - LOOK_S) * 1000)


def ours() -> tornado.web.Application:
    """The real hub and handlers, on the store of the parent's session."""
    from forge_notebook.core.catalog import store_path
    from forge_notebook.server.hub import Hub
    from forge_notebook.server.listener import application

    return application(Hub(store_path()), [])


Broadcast = Callable[[set[Any], bytes], None]


def bare(broadcast: Broadcast) -> tornado.web.Application:
    """A Tornado handler and a timer, nothing else."""
    viewers: set[Any] = set()

    class Handler(tornado.websocket.WebSocketHandler):
        def open(self, *args: str, **kwargs: str) -> None:
            viewers.add(self)

        def on_close(self) -> None:
            viewers.discard(self)

        def on_message(self, message: str | bytes) -> None:
            pass

    async def tick() -> None:
        text = json.dumps(UPDATE).encode()
        while True:
            await asyncio.sleep(TICK_S)
            if going.is_set():
                broadcast(viewers, text)

    tornado.ioloop.IOLoop.current().add_callback(tick)
    return tornado.web.Application([("/api/training/stream", Handler)])


def write_message(viewers: set[Any], text: bytes) -> None:
    """Tornado as documented: one call for each viewer."""
    shared = text.decode()
    for viewer in list(viewers):
        viewer.write_message(shared)


def raw_send(viewers: set[Any], text: bytes) -> None:
    """The limit: one frame, one ``send`` for each socket, no care for whoever is slow."""
    from forge_notebook.server.frames import text_frame

    frame = text_frame(text)
    for viewer in list(viewers):
        viewer.ws_connection.stream.socket.send(frame)


def python_socketio() -> tornado.web.Application:
    """python-socketio on Tornado, one room."""
    import socketio

    server = socketio.AsyncServer(async_mode="tornado", cors_allowed_origins="*")

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if going.is_set():
                await server.emit(UPDATE["event"], UPDATE["data"])

    tornado.ioloop.IOLoop.current().add_callback(tick)
    return tornado.web.Application([("/socket.io/", socketio.get_tornado_handler(server))])


def flask_socketio() -> None:
    """SPEC's stack: Flask-SocketIO in threading mode."""
    import flask
    import flask_socketio

    app = flask.Flask("bench")
    server = flask_socketio.SocketIO(app, async_mode="threading", cors_allowed_origins="*")
    (listener,) = bind_sockets(0, "127.0.0.1")
    port = listener.getsockname()[1]
    listener.close()

    def tick() -> None:
        going.wait()
        while True:
            server.sleep(TICK_S)
            server.emit(UPDATE["event"], UPDATE["data"])

    server.start_background_task(tick)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    print(port, file=_answers)
    server.run(app, host="127.0.0.1", port=port, allow_unsafe_werkzeug=True, log_output=False)


TORNADO: dict[str, Callable[[], tornado.web.Application]] = {
    "ours": ours,
    "write_message": lambda: bare(write_message),
    "raw send loop": lambda: bare(raw_send),
    "python-socketio": python_socketio,
}


async def serve(variant: str) -> None:
    """Serve one of the Tornado variants until the parent goes."""
    server = HTTPServer(TORNADO[variant]())
    sockets = bind_sockets(0, "127.0.0.1", backlog=1024)
    server.add_sockets(sockets)
    print(sockets[0].getsockname()[1], file=_answers)
    await watch_loop()


if __name__ == "__main__":
    threading.Thread(target=answer_stdin, daemon=True).start()
    if sys.argv[1] == "flask-socketio":
        flask_socketio()
    else:
        asyncio.run(serve(sys.argv[1]))
