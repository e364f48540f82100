"""Commands to a running session."""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado import web

from forge_notebook.core.control import COMMANDS, send_command
from forge_notebook.server.base import ForgeHandler

MAX_WAIT_S = 30.0


class ControlHandler(ForgeHandler):
    """``POST control/<id> {command, args}``: answered when the trainer acknowledges, else 504."""

    @web.authenticated
    @authorized
    async def post(self, session_id: str) -> None:
        folder = self.hub.catalog.folder(session_id)
        body = self.body()
        command, args = body.get("command"), body.get("args")
        args = {} if args is None else args
        if not isinstance(command, str) or command not in COMMANDS:
            raise web.HTTPError(400, "command=%r: give one of %s", command, ", ".join(COMMANDS))
        if not isinstance(args, dict):
            raise web.HTTPError(400, "args must be a JSON object")
        wait_s = min(MAX_WAIT_S, max(0.0, self.number("wait", 5.0)))
        command_id = await self.hub.in_thread(send_command, folder, command, args)
        answer = await self.hub.acknowledgement(session_id, command_id, wait_s)
        if answer is None:
            raise web.HTTPError(504, "%s: not yet acknowledged by the training process", command)
        self.answer(answer)
