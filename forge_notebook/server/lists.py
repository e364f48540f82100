"""The viewers of the list of sessions: each is told what changed since it was told last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from forge_notebook.core.wire import SESSION_STATUS, Message, SessionStatus
from forge_notebook.server.viewer import Batch, Viewer


class SessionLists:
    """Who follows the list, and which version of each session each of them knows."""

    def __init__(self, max_backlog: int) -> None:
        self._max_backlog = max_backlog
        self._known: dict[Viewer, dict[str, tuple[int, str]]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def add(self, viewer: Viewer) -> None:
        """Tell a viewer everything with the next news."""
        self._known[viewer] = {}

    def remove(self, viewer: Viewer) -> None:
        """Tell it no more; a viewer that is not there is left alone."""
        self._known.pop(viewer, None)

    def news(self, sessions: Sequence[SessionStatus]) -> Iterator[tuple[Viewer, Batch]]:
        """What each viewer is to be told; who is behind gets it when it has caught up."""
        batches: dict[str, Batch] = {}
        listed = {session["sessionId"] for session in sessions}
        for viewer, known in list(self._known.items()):
            if viewer.backlog() > self._max_backlog:
                continue
            for session in sessions:
                session_id, version = session["sessionId"], (session["seq"], session["status"])
                if known.get(session_id) != version:
                    known[session_id] = version
                    if session_id not in batches:
                        batches[session_id] = Batch([(SESSION_STATUS, dict(session))])
                    yield viewer, batches[session_id]
            for session_id in known.keys() - listed:
                del known[session_id]
                yield viewer, Batch([deleted(session_id)])


def deleted(session_id: str) -> Message:
    """What is told of a session that is gone."""
    return (SESSION_STATUS, {"sessionId": session_id, "status": "deleted"})
