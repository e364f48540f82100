"""``forge-notebook check``: does it work on this machine, from ``log()`` to a client's numbers?

Starts a Jupyter server of its own on a store of its own, records a session, follows it with a real
client by each transport, and compares every number with the log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from forge_notebook.cli._check_clients import TRANSPORTS, Client, Rows, headers
from forge_notebook.cli._jupyter import Endpoint, jupyter_server
from forge_notebook.core.runlog import POINTS, read_log
from forge_notebook.recording import Session

ROWS, MODELS = 200, 2
READY_S = 30.0


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("check", help="test every part from log() to a client, here")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check and print; 1 where something does not work."""
    results: dict[str, str | None] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="forge-check-"))
        try:
            server = stack.enter_context(jupyter_server(Path(folder)))
        except (OSError, RuntimeError) as error:
            results["Jupyter server with the extension"] = str(error)
        else:
            results["Jupyter server with the extension"] = None
            results.update(asyncio.run(_check(server, Path(folder))))
    if arguments.json:
        print(json.dumps({what: {"ok": e is None, "error": e} for what, e in results.items()}))
    else:
        for what, failure in results.items():
            print(f"{what:<44} {'ok' if failure is None else 'FAILED: ' + failure}")
    return 1 if any(results.values()) else 0


async def _check(server: Endpoint, store: Path) -> dict[str, str | None]:
    session = Session("check", total_steps=ROWS, models=MODELS, store=store)
    clients = [
        Client(name, follow, server, session.id, MODELS) for name, follow in TRANSPORTS.items()
    ]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    ready = [asyncio.create_task(client.ready.wait()) for client in clients]
    await asyncio.wait(ready, timeout=READY_S)
    recorder = threading.Thread(target=_record, args=(session,))
    recorder.start()
    await asyncio.gather(*tasks)
    await asyncio.to_thread(recorder.join)
    logged: Rows = [
        (r.seq, r.data.step, *r.data.values)
        for r in read_log(session.folder / "run.log")
        if r.kind == POINTS
    ]
    recorded = None if len(logged) == ROWS * MODELS else f"{len(logged)} of {ROWS * MODELS} rows"
    results: dict[str, str | None] = {"every row in the log": recorded}
    results |= {f"every number by {client.name}": client.verdict(logged) for client in clients}
    results["no entry without a token"] = await _refused(server)
    results["the page and its scripts"] = await _page(server)
    return results


def _record(session: Session) -> None:
    session.start()
    for model in range(MODELS):
        session.model_started(model, name=f"model {model}", params=1, total_steps=ROWS)
        for step in range(1, ROWS + 1):
            session.log(step, model=model, loss=2.0 / step, lr=1e-3)
            time.sleep(0.005)
        session.model_completed(model)
    session.finish()


async def _refused(server: Endpoint) -> str | None:
    from tornado.httpclient import AsyncHTTPClient

    reply = await AsyncHTTPClient().fetch(f"{server.url}api/training/sessions", raise_error=False)
    return None if reply.code == 403 else f"answered {reply.code}"


async def _page(server: Endpoint) -> str | None:
    from tornado.httpclient import AsyncHTTPClient

    for path in ("forge", "forge/static/dashboard.js"):
        reply = await AsyncHTTPClient().fetch(
            server.url + path, headers=headers(server), raise_error=False
        )
        if reply.code != 200 or not reply.body:
            return f"{path} answered {reply.code}; the front end is not built or not installed"
    return None
