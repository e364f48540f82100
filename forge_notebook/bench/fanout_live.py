"""What a broadcast does to the kernels' own channels on the same Jupyter server.

usage of the viewers' process: python -m forge_notebook.bench.fanout_live PORT SESSION COUNT
(the token comes in the environment); prints a line when all are connected, reads until killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forge_notebook.bench import Row
from forge_notebook.cli._jupyter import jupyter_server
from forge_notebook.recording import Session

MANY = {"ForgeNotebookApp": {"max_client_viewers": 20_000}}  # all of them are one client


def channels(count: int, *, quick: bool) -> list[Row]:
    """ms of a ``kernel_info`` round trip over a real kernel's WebSocket, while ``count`` viewers of
    the same server are told ten updates a second, beside the same with no viewer."""
    times = 20 if quick else 100
    with tempfile.TemporaryDirectory() as store, jupyter_server(Path(store), MANY) as server:
        port = int(server.url.rsplit(":", 1)[1].strip("/"))
        kernel = server.request("POST", "api/kernels", {})["id"]
        alone = asyncio.run(_round_trips(port, server.token, kernel, times))
        session = Session("bench", store=store)
        with _viewers(port, server.token, session, count):
            busy = asyncio.run(_round_trips(port, server.token, kernel, times))
        session.finish()
    reference = "no viewers"
    name = f"kernel round trip during a broadcast to {count}"
    return [
        Row(f"{name}, p50", statistics.median(busy), "ms", reference, statistics.median(alone)),
        Row(f"{name}, worst", max(busy), "ms", reference, max(alone)),
    ]


async def _round_trips(port: int, token: str, kernel: str, times: int) -> list[float]:
    from tornado.httpclient import HTTPRequest
    from tornado.httputil import HTTPHeaders
    from tornado.websocket import websocket_connect

    headers = HTTPHeaders({"Authorization": f"token {token}"})
    url = f"ws://127.0.0.1:{port}/api/kernels/{kernel}/channels"
    client = await websocket_connect(HTTPRequest(url, headers=headers, request_timeout=120))
    found = []
    for number in range(times + 3):  # the first ones wait for the kernel to start
        message = uuid.uuid4().hex
        began = time.monotonic()
        await client.write_message(_kernel_info(message))
        while True:
            text = await asyncio.wait_for(client.read_message(), 60)
            answer = json.loads(text or "{}")
            parent = answer.get("parent_header", {}).get("msg_id")
            if parent == message and answer["header"]["msg_type"] == "kernel_info_reply":
                break
        if number >= 3:
            found.append(1000 * (time.monotonic() - began))
        await asyncio.sleep(0.05)
    client.close()
    return found


def _kernel_info(message: str) -> str:
    header: dict[str, Any] = {
        "msg_id": message, "msg_type": "kernel_info_request", "username": "", "session": "bench",
        "date": "", "version": "5.3",
    }  # fmt: skip
    return json.dumps(
        {"header": header, "parent_header": {}, "metadata": {}, "content": {}, "channel": "shell"}
    )


@contextmanager
def _viewers(port: int, token: str, session: Session, count: int) -> Iterator[None]:
    """Viewers in a process of their own, and a session that tells them something ten times a s."""
    from forge_notebook.bench.fanout import write

    ended = threading.Event()
    writer = threading.Thread(target=write, args=(session, ended), daemon=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "forge_notebook.bench.fanout_live", str(port), session.id,
         str(count)],
        env={**os.environ, "FORGE_TOKEN": token}, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"{count} viewers could not connect")
        writer.start()
        time.sleep(2.0)
        yield
        if process.poll() is not None:
            raise RuntimeError("the viewers ended in mid-broadcast: the figures would be false")
    finally:
        process.kill()
        process.communicate()
        ended.set()
        if writer.ident is not None:
            writer.join()


def main() -> None:
    """The viewers' process."""
    from forge_notebook.bench.fanout import Viewers

    port, session, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    viewers = Viewers(port, "ours", session, count, token=os.environ["FORGE_TOKEN"])
    print("connected", flush=True)
    viewers.read(3600)


if __name__ == "__main__":
    main()
