"""Showing a session's card where there is a notebook to show it in."""

from __future__ import annotations

import sys

from forge_notebook.recording import Session


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def show(session: Session) -> None:
    """Display the session's card in a notebook; in a script nothing happens."""
    if in_notebook():
        from IPython.display import display

        display(session)  # type: ignore[no-untyped-call]
