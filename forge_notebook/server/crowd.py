"""Who is connected: sockets and waiting polls, in all and of each client."""

from __future__ import annotations

from collections import Counter

from forge_notebook.core.errors import ForgeError


class TooManyViewers(ForgeError, RuntimeError):
    """The configured number of viewers is connected."""

    code = "too_many_viewers"


class TooManyOfClient(ForgeError, RuntimeError):
    """One client holds as many sockets and waiting polls as are allowed to it."""

    code = "too_many_of_client"


class Crowd:
    """Counts who is here. ``most_of_client``: of one client; None: as many as of all together."""

    def __init__(self, most: int, most_of_client: int | None = None) -> None:
        self.most = most
        self.most_of_client = most_of_client
        self._here: Counter[str] = Counter()
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def admit(self, client: str) -> None:
        """Raises TooManyViewers or TooManyOfClient where no more are taken."""
        if self._all >= self.most:
            raise TooManyViewers(f"{self.most} viewers are connected; no more are taken")
        if self.most_of_client is not None and self._here[client] >= self.most_of_client:
            raise TooManyOfClient(
                f"this client has {self.most_of_client} sockets and waiting polls; "
                "no more are taken until it closes one"
            )

    def enter(self, client: str) -> None:
        """One more of a client."""
        self._here[client] += 1
        self._all += 1

    def leave(self, client: str) -> None:
        """One that entered is gone."""
        self._here[client] -= 1
        self._all -= 1
        if not self._here[client]:
            del self._here[client]
