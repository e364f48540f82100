"""News of trainings to an address that the server's owner chose, in the background.

The address may hold a secret (those of chat services do): only its host is ever logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from forge_notebook.core.wire import dumps, jsonable

log = logging.getLogger(__name__)

WAITING = 100  # news kept for a receiver that is away; of more the oldest go
TIMEOUT_S = 10.0
RETRY_AFTER_S = (1.0, 5.0, 25.0)
ANSWER_BYTES = 65_536
TOO_MANY = 429


def check_webhook_url(url: str) -> str:
    """The address itself. Raises ValueError, which does not repeat it, where it is none."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("webhook_url: give an http or https address")
    return url


class Webhook:
    """POSTs each news as JSON, in order. Redirects are not followed: they would carry the news
    to an address that nobody chose."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        retry_after_s: Sequence[float] = RETRY_AFTER_S,
    ) -> None:
        self._url = check_webhook_url(url)
        self.host = urlsplit(url).hostname
        self._timeout_s = timeout_s
        self._retry_after_s = retry_after_s
        self._waiting: deque[dict[str, Any]] = deque(maxlen=WAITING)
        self._task: asyncio.Task[None] | None = None
        self._client: AsyncHTTPClient | None = None

    def tell(self, news: dict[str, Any]) -> None:
        """Send it when its turn comes; comes back at once. On the event loop only."""
        if len(self._waiting) == WAITING:
            log.warning("forge webhook: %s does not keep up; the oldest news is lost", self.host)
        self._waiting.append(news)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; what was not sent is lost, and said."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            log.warning("forge webhook: the server stops before all news went to %s", self.host)
        if self._client is not None:
            self._client.close()

    async def _run(self) -> None:
        while self._waiting:
            news = self._waiting.popleft()
            try:
                await self._deliver(dumps(jsonable(news)))
            except Exception as error:  # its text may hold the address
                log.warning("forge webhook: %s failed (%s)", self.host, type(error).__name__)

    async def _deliver(self, body: str) -> None:
        for wait_s in (*self._retry_after_s, None):
            problem, final = await self._post(body)
            if problem is None:
                return
            if final or wait_s is None:
                log.warning("forge webhook: %s did not take news: %s", self.host, problem)
                return
            await asyncio.sleep(wait_s)

    async def _post(self, body: str) -> tuple[str | None, bool]:
        """What went wrong, and whether another try is of no use."""
        if self._client is None:
            self._client = AsyncHTTPClient(force_instance=True, max_body_size=ANSWER_BYTES)
        request = HTTPRequest(
            self._url,
            method="POST",
            headers={"Content-Type": "application/json"},
            body=body,
            connect_timeout=self._timeout_s,
            request_timeout=self._timeout_s,
            follow_redirects=False,
        )
        try:
            await self._client.fetch(request)
        except HTTPClientError as error:
            timed_out = error.code == 599  # tornado's own code: no answer came in time
            again = timed_out or error.code == TOO_MANY or 500 <= error.code < 600
            return ("no answer in time" if timed_out else f"HTTP {error.code}"), not again
        except OSError as error:
            return type(error).__name__, False
        return None, True
