"""The open listener in a thread of a notebook or script, beside its training."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from forge_notebook.server.hub import Hub
from forge_notebook.server.listener import application, listen


class BackgroundServer:
    """Serves a store read-only on loopback until ``close``. Raises OSError where the port is taken,
    BadOrigin where an origin is none.

    ``compress``: gzip of HTTP answers. Live frames are never compressed: one frame is shared by
    all viewers.
    """

    def __init__(
        self,
        store: Path,
        *,
        port: int = 5001,
        allow_origins: Sequence[str] = (),
        rate_hz: float = 10.0,
        compress: bool = True,
    ) -> None:
        self.port = port
        self._store = store
        self._rate_hz = rate_hz
        self._origins = list(allow_origins)
        self._compress = compress
        self._failed: BaseException | None = None
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forge-listener", daemon=True)
        self._thread.start()
        self._up.wait()
        if self._failed is not None:
            raise self._failed

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://localhost:{self.port}"

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failed = error
        finally:
            self._up.set()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        hub = Hub(self._store, rate_hz=self._rate_hz)
        app = application(hub, self._origins, compress=self._compress)
        server, self.port = listen(app, self.port)
        self._hub = hub
        self._up.set()
        await self._end.wait()
        server.stop()
        await hub.stop()
        await server.close_all_connections()

    def sent(self) -> int:
        """Messages sent to viewers so far."""
        return self._hub.messages_sent

    def close(self) -> None:
        """Stop listening and end the thread; closing twice does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()

    def __enter__(self) -> BackgroundServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
