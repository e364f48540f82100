"""``forge-notebook token``: tokens that can only send the logs of trainings elsewhere."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from forge_notebook.core.catalog import store_path
from forge_notebook.core.tokens import SESSION_BYTES, TOTAL_BYTES, Grant, TokenBook

MB = 1_000_000


def register(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("token", help="tokens that can only send logs to this store")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make one; it is shown this once, for $FORGE_TOKEN there")
    new.add_argument("name", nargs="?", default="", help="what it is for, to know it by later")
    new.add_argument(
        "--session",
        action="append",
        metavar="ID",
        help="ids or patterns such as 'night-*'; an id in full may be of a session already here",
    )
    new.add_argument("--session-mb", type=int, default=SESSION_BYTES // MB, metavar="MB",
                     help="at most so much for each session, default %(default)s")  # fmt: skip
    new.add_argument("--total-mb", type=int, default=TOTAL_BYTES // MB, metavar="MB",
                     help="at most so much for all of them, default %(default)s")  # fmt: skip
    actions.add_parser("list", help="what there is; the tokens themselves are not kept")
    actions.add_parser("revoke", help="end one").add_argument("token_id")
    for action, run in (("new", _new), ("list", _list), ("revoke", _revoke)):
        actions.choices[action].add_argument("--json", action="store_true", help="as JSON")
        actions.choices[action].set_defaults(run=run)


def _new(arguments: argparse.Namespace) -> int:
    grant, token = TokenBook(store_path()).mint(
        arguments.name,
        sessions=arguments.session or ["*"],
        session_bytes=arguments.session_mb * MB,
        total_bytes=arguments.total_mb * MB,
    )
    print(json.dumps({**grant.wire(), "token": token}) if arguments.json else token)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    grants = TokenBook(store_path()).grants()
    if arguments.json:
        print(json.dumps([grant.wire() for grant in grants], indent=1))
    else:
        print("\n".join(_line(grant) for grant in grants) or "no ingest tokens")
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    grant = TokenBook(store_path()).revoke(arguments.token_id)
    print(json.dumps(grant.wire()) if arguments.json else f"{grant.id}: revoked")
    return 0


def _line(grant: Grant) -> str:
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(grant.created))
    sizes = f"{grant.session_bytes // MB} of {grant.total_bytes // MB} MB"
    return f"{grant.id}  {made}  {sizes:<18} {','.join(grant.sessions):<16} {grant.name}"
