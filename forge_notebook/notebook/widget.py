"""The card as a widget: a reader of the run log like any other viewer."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.display import display, update_display

from forge_notebook.core.catalog import Catalog, store_path
from forge_notebook.core.control import CommandRefused, send_command
from forge_notebook.core.errors import ForgeError
from forge_notebook.core.follower import Follower
from forge_notebook.core.history import MAX_POINTS
from forge_notebook.core.status import ENDED
from forge_notebook.core.throttle import Throttle
from forge_notebook.core.wire import ERROR, MIME_TYPE
from forge_notebook.notebook.picture import HEIGHT, WIDTH, picture
from forge_notebook.notebook.publisher import publisher
from forge_notebook.notebook.routing import deliver_where_sent
from forge_notebook.notebook.snapshot import saved_snapshot
from forge_notebook.recording.session import Session

STATIC = Path(__file__).parent.parent / "static"
VIEW_S = 30.0  # without a sign of life for that long, nobody looks
RATE_HZ = 10.0  # SPEC; Jupyter silently drops above 1,000 messages a second
CHECK_S = 0.1  # how often it is looked whether the log has a writer, which opens the file
# Rows are read for 3 ms each second while nobody looks: a page that comes back in the morning must
# not find a night's rows unread, whose reading would take turns with the training.
UNSEEN_ROWS, UNSEEN_S, UNSEEN_EACH_S = 100, 0.003, 1.0
# What a page asks the kernel for where no server of ours serves it. The module of the widget is
# sent with each model, so it is small; the card it shows is loaded once per page.
FILES = {"card": "card-*.mjs", "plotly": "plotly.mjs"}
METADATA = {"image/png": {"width": WIDTH // 2, "height": HEIGHT // 2}}


class SessionWidget(anywidget.AnyWidget):
    """The card of one session. Made by ``session.widget`` and ``forge.watch``."""

    _esm = STATIC / "widget.js"

    session_id = traitlets.Unicode().tag(sync=True)
    # Packed when a page asks for the state, so always fresh, and free until then.
    snapshot = traitlets.Any(None, allow_none=True).tag(
        sync=True, to_json=lambda _value, widget: widget.bundle_snapshot()
    )

    def __init__(self, session_id: str, store: Path) -> None:
        self._folder = Catalog(store).folder(session_id)
        self._reading = threading.RLock()  # a page may ask for the state on another thread
        self._follower = Follower(self._folder, keep_rows=0)
        self._follower.load()
        self._seen_until = 0.0
        self._throttle = Throttle(RATE_HZ)
        self._next_check = self._next_unseen = 0.0
        self._displays: list[str] = []
        self._final = False
        super().__init__(session_id=session_id)
        deliver_where_sent(self.comm)
        self.on_msg(self._on_page_message)
        publisher.add(self)

    # From the page. Any thread; must not wait.

    def _on_page_message(self, _widget: Any, content: Any, _buffers: Any) -> None:
        if isinstance(content, dict) and isinstance(content.get("data"), dict):
            publisher.request(self, str(content.get("event")), content["data"])

    # The publisher's thread

    def answer(self, event: str, data: dict[str, Any]) -> None:
        """Answer one request of the page."""
        self._seen_until = time.monotonic() + VIEW_S
        try:
            with self._reading:
                self._answer(event, data)
        except (ForgeError, TypeError, ValueError) as error:
            code = getattr(error, "code", "bad_message")
            self._tell(ERROR, {"message": str(error), "code": code, "event": event})

    def _answer(self, event: str, data: dict[str, Any]) -> None:
        if event == "subscribe_session":
            self._read()
            self._tell_news()
            after = data.get("after")
            for name, message in self._follower.opening(after if isinstance(after, int) else None):
                self._tell(name, message)
        elif event == "series":
            self._tell("series", {"id": data.get("id"), **self._window(data)})
        elif event == "control":
            self._control(data)
        elif event in FILES:
            file = max(STATIC.glob(FILES[event]))  # one, unless the front end is not built
            self.send({"event": event, "data": {}}, buffers=[file.read_bytes()])

    @property
    def watched(self) -> bool:
        """Whether anybody looks, as far as is known."""
        # In the main thread a page cannot be heard while a cell runs.
        return publisher.in_main_thread or time.monotonic() <= self._seen_until

    def publish(self) -> None:
        """Send what is new, if anybody looks; at the end refresh the saved picture."""
        now = time.monotonic()
        with self._reading:
            if watched := self.watched:
                self._read()
                if self._follower.due(self._throttle, now):
                    self._tell_news()
            elif now >= self._next_unseen:
                self._next_unseen = now + UNSEEN_EACH_S
                while self._follower.read(UNSEEN_ROWS) == UNSEEN_ROWS:
                    if time.monotonic() > now + UNSEEN_S:
                        break
            if now >= self._next_check:
                self._next_check = now + CHECK_S
                if watched and (message := self._follower.died()) is not None:
                    self._tell(*message)
                if self._displays and not self._final:
                    self._freeze_at_end()

    def _read(self) -> None:
        while self._follower.read():
            pass

    def _tell_news(self) -> None:
        for event, data in self._follower.messages():
            self._tell(event, data)

    def _tell(self, event: str, data: dict[str, Any]) -> None:
        self.send({"event": event, "data": data})

    def _window(self, query: dict[str, Any]) -> dict[str, Any]:
        blocks = self._follower.curves.overview(
            min(MAX_POINTS, max(2, int(query.get("points", 1000)))),
            metrics=query.get("metrics"),
            x="time" if query.get("x") == "time" else "step",
            low=float(query.get("from", "-inf")),
            high=float(query.get("to", "inf")),
        )
        return {"series": blocks}

    def _control(self, data: dict[str, Any]) -> None:
        name, command_id = str(data.get("command")), str(data.get("id"))
        try:
            send_command(self._folder, name, data.get("args"), command_id)
        except (CommandRefused, TypeError) as error:
            refusal = {"commandId": command_id, "command": name, "ok": False, "message": str(error)}
            self._tell("command_ack", refusal)

    def _freeze_at_end(self) -> None:
        """A saved notebook holds the output as displayed: before training. Replace it once."""
        if self._follower.alive():
            return
        self._read()
        if self._follower.state.status in ENDED:
            self._final = True
            bundle = self._bundle()  # drawing the picture takes a quarter of a second
            for display_id in self._displays:
                update_display(  # type: ignore[no-untyped-call]
                    bundle, raw=True, display_id=display_id, metadata=METADATA
                )

    # Display

    def bundle_snapshot(self) -> dict[str, Any] | None:
        """What a subscribe without cursor would answer: ``{status, update}``."""
        if not hasattr(self, "_follower"):
            return None
        with self._reading:
            messages = self._follower.opening(None)
        return {"status": messages[0][1], "update": messages[1][1]}

    def _bundle(self) -> dict[str, Any]:
        with self._reading:  # a card is displayed by another thread than the one that reads
            image, snapshot = picture(self._follower), saved_snapshot(self._follower)
        bundle = {
            "text/plain": repr(self),
            "image/png": image,
            MIME_TYPE: {"sessionId": self.session_id, "snapshot": snapshot},
        }
        if self._view_name is not None:
            bundle["application/vnd.jupyter.widget-view+json"] = {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.model_id,
            }
        return bundle

    def _ipython_display_(self) -> None:
        self._seen_until = time.monotonic() + VIEW_S
        bundle = self._bundle()
        ended = bundle[MIME_TYPE]["snapshot"]["status"]["status"] in ENDED
        handle = display(  # type: ignore[no-untyped-call]
            bundle, raw=True, display_id=True, metadata=METADATA
        )
        if handle is not None and not ended:  # what is shown of an ended session is final
            self._displays.append(handle.display_id)
            self._final = False

    def close(self) -> None:
        """Close the comm; the session goes on."""
        publisher.remove(self)
        super().close()

    def __repr__(self) -> str:
        state = self._follower.state
        return f"Session card: {state.name}"


_cards: dict[tuple[str, str], SessionWidget] = {}


def card(session_id: str, store: str) -> SessionWidget:
    """The card of a session: one for each session in a kernel, however often it is displayed."""
    key = (session_id, store)
    if key not in _cards:
        _cards[key] = SessionWidget(session_id, Path(store))
    return _cards[key]


def watch(session: str | Session, *, store: str | Path | None = None) -> SessionWidget:
    """The card of any session in the store, also one that another process trains.

    ``session`` is a session or its id; ``store`` the folder of all sessions, default
    ``$FORGE_STORE`` or Jupyter's data folder. Returns an anywidget: display it.
    Raises UnknownSession where there is none of that id.
    """
    if isinstance(session, Session):
        return card(session.id, str(session.store))
    return card(session, str(store_path() if store is None else store))
