"""``%forge`` and ``%%forge``: sessions and control from a cell, training in the background."""

from __future__ import annotations

import ast
import shlex
import threading
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.display import display

import forge_notebook as forge
from forge_notebook.core.catalog import Catalog, store_path
from forge_notebook.core.control import send_command
from forge_notebook.core.errors import ForgeError
from forge_notebook.recording import Session

COMMANDS = ("pause", "resume", "stop", "checkpoint")
USAGE = f"%forge sessions | watch [ID] | {' | '.join(f'{c} [ID]' for c in COMMANDS)}"
LIVE = ("created", "running", "paused")


class Background:
    """A cell that runs in a thread of this kernel. Its last line shows its status."""

    def __init__(
        self, session: Session, run: Callable[[], None], report: Callable[[], None]
    ) -> None:
        self.session = session
        self.error: BaseException | None = None
        self._run = run
        self._report = report
        self._thread = threading.Thread(target=self._guarded, name="forge-cell", daemon=True)
        self._thread.start()

    def _guarded(self) -> None:
        try:
            with self.session:
                self._run()
        except BaseException as error:  # shown and kept: nobody else would hear of it
            self.error = error
            self._report()

    def wait(self, timeout: float | None = None) -> str:
        """Wait for the cell's end; the session's status. Raises what the cell raised."""
        self._thread.join(timeout)
        if self.error is not None:
            raise self.error
        return self.session.status

    def __repr__(self) -> str:
        return f"Background({self.session.name!r}, {self.session.status})"


@magics_class
class ForgeMagics(Magics):
    """Registered by ``%load_ext forge_notebook``."""

    @line_cell_magic
    def forge(self, line: str, cell: str | None = None) -> Any:
        """``%forge sessions|watch|pause|resume|stop|checkpoint [ID]``; as ``%%forge [NAME]``: run
        the cell in the background as a session, ``session`` in it, with its card below.

        Without ID the newest session is meant, for commands the newest that runs.
        """
        try:
            return self._line(line) if cell is None else self._cell(line.strip(), cell)
        except ForgeError as error:
            raise UsageError(str(error)) from None

    def _line(self, line: str) -> Any:
        words = shlex.split(line)
        name, rest = (words[0], words[1:]) if words else ("", [])
        if name == "sessions" and not rest:
            return forge.sessions()
        if name not in ("watch", *COMMANDS) or len(rest) > 1:
            raise UsageError(USAGE)
        session_id = rest[0] if rest else newest(running=name != "watch")
        if name == "watch":
            return forge.watch(session_id)
        send_command(Catalog(store_path()).folder(session_id), name)
        print(f"{name} sent to {session_id}")
        return None

    def _cell(self, name: str, cell: str) -> Background:
        shell: Any = self.shell
        code = shell.transform_cell(cell)
        tree = ast.parse(code, filename="<%%forge>")  # a syntax error is the cell's own, now
        if any(
            isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith)) for node in ast.walk(tree)
        ):
            raise UsageError("%%forge runs the cell in a thread: no await at its top")
        session = forge.session(name or "cell")
        namespace = shell.user_ns
        namespace["session"] = session
        number = shell.execution_count
        filename = shell.compile.cache(code, number, raw_code=cell)
        compiled = compile(tree, filename, "exec")
        display(session)  # type: ignore[no-untyped-call]
        return Background(
            session,
            lambda: exec(compiled, namespace),
            lambda: shell.showtraceback(running_compiled_code=True),
        )


def newest(*, running: bool) -> str:
    """The id of the newest session. Raises UsageError where there is none."""
    found = forge.sessions(status=LIVE if running else None, limit=1)
    if not found:
        raise UsageError("no session runs" if running else "no sessions in this store")
    return str(found[0]["sessionId"])
