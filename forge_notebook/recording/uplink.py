"""Sends a session's log to a server elsewhere, and brings its commands back.

A process of its own, so that nothing of it holds the training's GIL, and so that it still sends
what a killed training left behind. The log on this machine's disk is the queue: memory is one
chunk, and a server that was away for the whole run gets everything afterwards. The token comes in
the environment and goes into one request header, nowhere else.
"""

from __future__ import annotations

import json
import logging
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from forge_notebook.core.control import CommandRefused, send_command
from forge_notebook.core.errors import ForgeError
from forge_notebook.core.runlog import has_writer

log = logging.getLogger(__name__)

CHUNK = 256 << 10  # at most
LEAST = 1 << 10
IDLE_S = 0.5
BUSY_S = 0.1
LONGEST_WAIT_S = 10.0
TIMEOUT_S = 30.0
AFTER_END_S = 300.0  # how long it goes on trying when the training has ended
TAIL = 4096


class Target(NamedTuple):
    """Where to send."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Target({self.url!r})"  # never the token


class Refused(ForgeError, RuntimeError):
    """The server said no, and trying again would not change that."""


def target(url: str | None = None, token: str | None = None) -> Target | None:
    """The server that was given, else ``$FORGE_URL`` and ``$FORGE_TOKEN``.

    A kernel gateway hands only variables with ``KERNEL_`` before their name on to its kernels, so
    those are looked at as well. Raises ValueError for what is no URL.
    """
    env = os.environ
    url = url or env.get("FORGE_URL") or env.get("KERNEL_FORGE_URL")
    token = token or env.get("FORGE_TOKEN") or env.get("KERNEL_FORGE_TOKEN") or ""
    if not url:
        return None
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"FORGE_URL={parts.scheme}://{parts.hostname}: give http(s)://host/base/")
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        log.warning("FORGE_URL is not https: the token crosses the network in clear text")
    return Target(url.rstrip("/") + "/", token)


class Uplink:
    """One session's log on its way. ``step`` sends at most one chunk."""

    def __init__(self, folder: Path, server: Target) -> None:
        self.folder = folder
        self.log = folder / "run.log"
        self._server = server
        self._shift = 0  # offset there minus offset here: another log stands before ours
        self._there: int | None = None
        self._after: int | None = None
        self._file: BinaryIO | None = None
        self.chunk = CHUNK  # less while the link does not take that within TIMEOUT_S

    def close(self) -> None:
        """Let go of the log."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        """The log. One that was begun anew in its place is another: what is there is asked again.
        Held open, because a file system gives the number of a removed file to the next."""
        if self._file is not None and not os.path.samestat(
            os.fstat(self._file.fileno()), os.stat(self.log)
        ):
            self.close()
            self._there = None
        if self._file is None:
            self._file = open(self.log, "rb")  # noqa: SIM115
        return self._file

    @property
    def done(self) -> bool:
        """Whether everything that is here is there."""
        return self._there is not None and self._there - self._shift >= self._size()

    def _size(self) -> int:
        try:
            return self.log.stat().st_size
        except OSError:
            return 0

    def step(self, *, end: bool = False) -> int:
        """Send what is next; how many bytes that was. Raises OSError or Refused."""
        file = self._open()
        if self._there is None:
            self._meet(self._put(0, b"", end=False), file)
        there = self._there or 0
        here = there - self._shift
        file.seek(here)
        data = file.read(self.chunk)
        try:
            answer = self._put(there, data, end=end and here + len(data) >= self._size())
        except OSError:
            self.chunk = max(LEAST, self.chunk // 4)
            raise
        self.chunk = min(CHUNK, 2 * self.chunk)
        self._there = int(answer["size"])
        self._obey(answer["commands"])
        return len(data)

    def _meet(self, answer: dict[str, Any], file: BinaryIO) -> None:
        """Find out where to go on. A log that is not the beginning of ours stays, and ours goes
        behind it: readers take each record once, by its seq."""
        size = int(answer["size"])
        begin = max(0, size - TAIL)
        file.seek(begin)
        same = zlib.crc32(file.read(size - begin)) == answer["tail"]
        self._shift = 0 if same and size <= self._size() else size
        self._there = size
        self._after = int(answer["after"])

    def _obey(self, commands: list[dict[str, Any]]) -> None:
        for command in commands:
            try:
                send_command(
                    self.folder, command["name"], command["args"], str(command["commandId"])
                )
            except CommandRefused as error:
                log.warning("%s", error)

    def _put(self, offset: int, data: bytes, *, end: bool) -> dict[str, Any]:
        query = {"offset": offset, "end": int(end)}
        if self._after is not None:
            query["after"] = self._after
        url = (
            f"{self._server.url}api/training/log/{self.folder.name}?{urllib.parse.urlencode(query)}"
        )
        headers = {"Content-Type": "application/octet-stream"}
        if self._server.token:
            headers["Authorization"] = f"token {self._server.token}"
        request = urllib.request.Request(url, data=data, method="PUT", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
                answer: dict[str, Any] = json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error)
            raise OSError(f"HTTP {error.code}") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise Refused(
                    "the server's certificate is not trusted here "
                    f"({error.reason.verify_message}); set SSL_CERT_FILE to its authority's file"
                ) from None
            raise
        except (ValueError, KeyError) as error:
            raise OSError(f"an answer that is none: {error!r}") from None
        if self._after is not None:
            self._after = int(answer["after"])
        return answer

    def _refused(self, error: urllib.error.HTTPError) -> None:
        if error.code == 409:
            self._there = None  # meet again: the server knows where to go on
        elif error.code in (400, 401, 403, 404, 405, 413):
            why = f"HTTP {error.code}{_said(error)}"
            raise Refused(f"the server refuses this session: {why}") from None


def _said(error: urllib.error.HTTPError) -> str:
    """What our server says of a refusal; nothing of what a proxy's page says."""
    try:
        answer = json.loads(error.read(10_000))
        text = f"{answer['error']} ({answer['code']})"
    except (ValueError, KeyError, TypeError, OSError):
        return ""
    return f", {text[:300]}" if text.isprintable() else ""


def ship(folder: Path, server: Target, *, patience_s: float) -> bool:
    """Send until nobody writes the log and all of it is there; False where the server did not take
    it within ``patience_s`` after that. Raises Refused."""
    with closing(Uplink(folder, server)) as uplink:
        return _ship(uplink, patience_s)


def _ship(uplink: Uplink, patience_s: float) -> bool:
    wait, ended = BUSY_S, 0.0
    while True:
        alive = has_writer(uplink.log)
        if not alive and not ended:
            ended = time.monotonic()
        try:
            whole = uplink.chunk
            sent = uplink.step(end=not alive)
            if uplink.done and not alive:
                return True
            wait = BUSY_S if sent else IDLE_S
            if sent == whole:
                continue
        except OSError as error:
            log.info("%s: not sent yet (%s)", uplink.folder.name, error)
            wait = min(LONGEST_WAIT_S, 2 * max(wait, IDLE_S))
            if ended and time.monotonic() - ended > patience_s:
                return False
        time.sleep(wait)


def start(folder: Path, server: Target) -> subprocess.Popen[bytes]:
    """Send in a process of its own, which outlives this one until all is sent."""
    environment = {**os.environ, "FORGE_URL": server.url, "FORGE_TOKEN": server.token}
    with open(folder / "uplink.log", "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "forge_notebook.recording.uplink", str(folder)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,  # Ctrl+C is for the training
        )


def main() -> int:
    """The process that ``start`` starts."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    folder, server = Path(sys.argv[1]), target()
    if server is None:
        return 2
    try:
        return 0 if ship(folder, server, patience_s=AFTER_END_S) else 1
    except Refused as error:
        log.error("%s; later: forge-notebook push %s", error, folder.name)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
