"""Making and ending ingest tokens, behind Jupyter's own authentication and authorizer."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado import web

from forge_notebook.core.tokens import SESSION_BYTES, TOTAL_BYTES, TokenBook
from forge_notebook.server.base import MAX_SEQ, ForgeHandler, integer


class _TokenHandler(ForgeHandler):
    @property
    def book(self) -> TokenBook:
        """The tokens. Raises HTTPError 404 on a server that takes none."""
        grants = self.settings.get("forge_grants")
        if grants is None:
            raise web.HTTPError(404, "this server takes no ingest tokens")
        book: TokenBook = grants.book
        return book


class TokensHandler(_TokenHandler):
    """``GET tokens``; ``POST tokens {name, sessions, sessionBytes, totalBytes}``, all optional."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.answer([grant.wire() for grant in self.book.grants()])

    @web.authenticated
    @authorized
    async def post(self) -> None:
        book, body = self.book, self.body() if self.request.body else {}
        name, sessions = body.get("name", ""), body.get("sessions", ["*"])
        if not isinstance(name, str) or not _texts(sessions):
            raise web.HTTPError(400, "name must be text, and sessions a list of texts")
        grant, token = await self.hub.in_thread(
            lambda: book.mint(
                name,
                sessions=sessions,
                session_bytes=_bytes(body, "sessionBytes", SESSION_BYTES),
                total_bytes=_bytes(body, "totalBytes", TOTAL_BYTES),
            )
        )
        self.set_header("Cache-Control", "no-store")
        self.answer({**grant.wire(), "token": token})


class TokenHandler(_TokenHandler):
    """``DELETE tokens/<id>``: the next request with it is refused."""

    @web.authenticated
    @authorized
    async def delete(self, token_id: str) -> None:
        grant = await self.hub.in_thread(self.book.revoke, token_id)
        self.answer(grant.wire())


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _bytes(body: dict[str, Any], name: str, default: int) -> int:
    return integer(name, body.get(name, default), 1, MAX_SEQ)
