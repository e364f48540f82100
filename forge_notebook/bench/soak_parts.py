"""The parts of the soak: a training loop in a kernel that can be killed, a viewer that comes and
goes and keeps account of every point, and what a log holds to compare it with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import random
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from forge_notebook.cli._check_clients import headers
from forge_notebook.cli._jupyter import Endpoint
from forge_notebook.core.runlog import POINTS, Reader
from forge_notebook.core.status import ENDED

START_S = 300.0  # a busy machine is slow to start a kernel; that is not what is measured
_ROW = struct.Struct("<Qd")

# Runs in the kernel; 100 rows a second, with the card displayed and looked at.
TRAIN = """
import math, threading, time
import forge_notebook as forge
session = forge.session({name!r}, store={store!r}, **{identity!r})
display(session.widget)
stop = threading.Event()
def train():
    step = {step}
    while not stop.wait(0.01):
        step += 1
        session.log(step, loss=1 + math.sin(step) ** 2)
        if step % 500 == 0:
            session.event("checkpoint_saved", step=step, path="x")
loop = threading.Thread(target=train)
loop.start()
"""
FINISH = "stop.set(); loop.join(); session.finish()"


class Loop:
    """A training loop in a real kernel."""

    def __init__(self, session_id: str, store: Path) -> None:
        self.id = session_id
        self._store = store
        self._log = store / session_id / "run.log"
        self._manager: Any = None
        self._client: Any = None

    def __enter__(self) -> Loop:
        self._start({"session_id": self.id}, 0)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    @property
    def pid(self) -> int:
        """Of the kernel that is running now."""
        return int(self._manager.provisioner.pid)

    def kill_and_resume(self) -> None:
        """SIGKILL, and go on in a new kernel where the log ends."""
        self.__exit__()
        self._start({"resume": self.id}, rows_of(self._log).last_step)

    def finish(self) -> None:
        """End the training as it should end."""
        self._run(FINISH)

    def _start(self, identity: dict[str, str], step: int) -> None:
        from jupyter_client.manager import start_new_kernel

        self._manager, self._client = start_new_kernel(
            startup_timeout=START_S, stderr=subprocess.DEVNULL
        )
        self._run(TRAIN.format(name=self.id, store=str(self._store), identity=identity, step=step))

    def _run(self, code: str) -> None:
        reply = self._client.execute_interactive(
            code, timeout=START_S, output_hook=lambda _message: None
        )
        if reply["content"]["status"] != "ok":
            raise RuntimeError("\n".join(reply["content"]["traceback"]))


class Viewer:
    """Follows one session and keeps a checksum of all its points, in the order they came."""

    def __init__(self, server: Endpoint, session: str, fate: random.Random) -> None:
        self.session = session
        self.rows = 0
        self.sum = 0
        self.wrong = 0
        self.since = 0  # the checksum covers what came after this record
        self.connections = 0
        self.done = False
        self._server = server
        self._fate = fate
        self._cursor = 0
        self._end = math.inf  # last record of the session, once it has ended
        self._socket: Any = None

    async def run(self) -> None:
        """Until the training has ended: look for a while, be away for a while."""
        while not self.done:
            look = self._fate.choice([self._stream, self._stream, self._poll])
            with contextlib.suppress(OSError, EOFError, asyncio.TimeoutError):
                await asyncio.wait_for(look(), self._fate.uniform(2.0, 20.0))
            await asyncio.sleep(self._fate.uniform(0.0, 3.0))

    def cut(self) -> None:
        """The network is gone: no closing handshake."""
        if self._socket is not None:
            self._socket.protocol.stream.close()

    async def _stream(self) -> None:
        from tornado.httpclient import HTTPRequest
        from tornado.websocket import websocket_connect

        url = f"{self._server.url.replace('http', 'ws', 1)}api/training/stream"
        request = HTTPRequest(url, headers=headers(self._server))
        connecting = asyncio.ensure_future(websocket_connect(request))
        try:
            self._socket = await _answered(asyncio.shield(connecting))
        except (
            asyncio.CancelledError
        ):  # it had enough of waiting: the connection comes all the same
            connecting.add_done_callback(_close)
            raise
        self.connections += 1
        try:
            await self._subscribe()
            while not self.done:
                text = await self._socket.read_message()
                if text is None:
                    return
                message = json.loads(text)
                if not self.take(message["event"], message["data"]):
                    await self._subscribe()
        finally:
            self._socket.close()
            self._socket = None

    async def _subscribe(self) -> None:
        from tornado.websocket import WebSocketClosedError

        data = {"sessionId": self.session, "after": self._cursor}
        message = json.dumps({"event": "subscribe_session", "data": data})
        try:
            await self._socket.write_message(message)
        except WebSocketClosedError as error:
            raise EOFError from error

    async def _poll(self) -> None:
        from tornado.httpclient import AsyncHTTPClient, HTTPRequest

        client = AsyncHTTPClient(force_instance=True)
        self.connections += 1
        try:
            while not self.done:
                url = f"{self._server.url}api/training/poll/{self.session}"
                request = HTTPRequest(
                    f"{url}?after={self._cursor}&wait=2", headers=headers(self._server)
                )
                reply = json.loads((await _answered(client.fetch(request))).body)["data"]
                for message in reply["messages"]:
                    self.take(message["event"], message["data"])
        finally:
            client.close()

    def take(self, event: str, data: dict[str, Any]) -> bool:
        """Keep account of one message; False where records are missing before it."""
        if event == "session_status" and data["status"] in ENDED:
            self._end = data["seq"]
        if "fromSeq" not in data or data["seq"] <= self._cursor:
            self.done = self.done or self._cursor >= self._end
            return True
        if data["fromSeq"] > self._cursor:
            return False
        for block in data.get("series", []):
            if "decimated" in block:  # was away for too long to be told each point
                self.since, self.sum = data["seq"], 0
                continue
            losses = block["values"][block["columns"].index("loss")]
            for seq, step, loss in zip(block["seq"], block["step"], losses, strict=True):
                if seq > self._cursor:
                    self.rows += 1
                    self.wrong += loss != 1 + math.sin(step) ** 2
                    self.sum = zlib.crc32(_ROW.pack(seq, loss), self.sum)
        self._cursor = data["seq"]
        # One that was away for too long is told the end by the status alone.
        self.done = event == "training_completed" or self._cursor >= self._end
        return True


def _close(connected: asyncio.Future[Any]) -> None:
    if not connected.cancelled() and connected.exception() is None:
        connected.result().close()


async def _answered(reply: Any) -> Any:
    """What the server answers; OSError where it is away, or does not know the session yet."""
    from tornado.httpclient import HTTPError

    try:
        return await reply
    except HTTPError as error:
        raise OSError(str(error)) from error


class LoggedRows(NamedTuple):
    """All points of a log: their seqs, and one byte string of ``(seq, loss)`` pairs."""

    seqs: list[int]
    packed: bytes
    last_step: int
    lost: int


def rows_of(log: Path) -> LoggedRows:
    """Read a log through."""
    reader, seqs, packed, step = Reader(log), [], bytearray(), 0
    while records := reader.read():
        for record in records:
            if record.kind == POINTS:
                seqs.append(record.seq)
                packed += _ROW.pack(record.seq, record.data.values[0])
                step = record.data.step
    return LoggedRows(seqs, bytes(packed), step, reader.lost)


def verdict(viewer: Viewer, log: LoggedRows) -> bool:
    """Whether a viewer lost, doubled or misread a point."""
    first = sum(seq <= viewer.since for seq in log.seqs)
    whole = zlib.crc32(log.packed[first * _ROW.size :])
    return viewer.done and (viewer.sum != whole or viewer.wrong > 0)


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB; NaN while it is not there, or without /proc."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return math.nan
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors(pid: int) -> int:
    """Open files of a process; 0 without /proc."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0
