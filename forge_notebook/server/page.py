"""The dashboard page and the built front-end files."""

from __future__ import annotations

from pathlib import Path

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import AuthenticatedFileHandler
from tornado import web

from forge_notebook.server.base import RESOURCE, Discreet

STATIC = Path(__file__).parent.parent / "static"

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data: blob:; font-src 'self'; base-uri 'none'; form-action 'none'"
)


class PageHandler(Discreet):
    """``{base_url}forge``: the sessions without JupyterLab."""

    auth_resource = RESOURCE

    @property
    def content_security_policy(self) -> str:
        """Jupyter's policy, and nothing but our own files. Plotly writes style elements."""
        return f"{super().content_security_policy}; {CSP}"

    @web.authenticated
    @authorized
    def get(self) -> None:
        """The page; reading ``xsrf_token`` sets the cookie that its buttons send back."""
        assert self.xsrf_token
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.finish((STATIC / "dashboard.html").read_bytes())


class StaticHandler(Discreet, AuthenticatedFileHandler):
    """``{base_url}forge/static/<file>``."""

    auth_resource = RESOURCE

    @property
    def content_security_policy(self) -> str:
        """Jupyter's file handler sandboxes what it serves; these are our own scripts."""
        return super(AuthenticatedFileHandler, self).content_security_policy

    def get_content_type(self) -> str:
        """``.mjs`` too is JavaScript: a module of another type is refused by the browser."""
        if self.absolute_path is not None and self.absolute_path.endswith(".mjs"):
            return "text/javascript"
        kind: str = super().get_content_type()
        return kind

    def check_xsrf_cookie(self) -> None:
        """Not for these: they hold nothing of the user's, and a page that sends no Referer (which
        is what Jupyter looks at for files) could not load them."""

    def set_extra_headers(self, path: str) -> None:
        """Revalidate, so that an upgrade reaches the page; unchanged files answer 304."""
        self.set_header("Cache-Control", "no-cache")
