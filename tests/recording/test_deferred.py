"""Values on an accelerator, by a device that takes its time and says whether anybody waited."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

import forge_notebook as forge
from forge_notebook.core.runlog import POINTS, read_log
from forge_notebook.recording import Session, deferred


class Device:
    """A queue of work: a value is there once everything launched before it is done."""

    type = "fake"

    def __init__(self) -> None:
        self.launched = 0
        self.done = 0
        self.waited = threading.Event()

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return self is other


class Mark:
    device: Device

    def record(self) -> None:
        self.device.launched += 1
        self.at = self.device.launched

    def query(self) -> bool:
        return self.device.done >= self.at

    def synchronize(self) -> None:
        if not self.query():
            self.device.waited.set()
            self.device.done = self.at


class Tensor:
    def __init__(self, device: Device, value: float) -> None:
        self.device = device
        self.value = value

    def detach(self) -> Tensor:
        return self

    def clone(self) -> Tensor:
        return Tensor(self.device, self.value)

    def reshape(self, _shape: tuple[()]) -> Tensor:
        return self

    def float(self) -> Tensor:
        return self

    def __float__(self) -> Any:
        raise AssertionError("log() waited for the device")

    item = __float__


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()

    def stack(values: list[Tensor]) -> Any:
        return SimpleNamespace(tolist=lambda: [value.value for value in values])

    module = SimpleNamespace(Event=type("Event", (Mark,), {"device": made}))
    monkeypatch.setattr(deferred, "_torch", lambda: SimpleNamespace(fake=module, stack=stack))
    return made


def steps(session: Session) -> list[tuple[int, float]]:
    log = read_log(session.folder / "run.log")
    return [(r.data.step, r.data.values[0]) for r in log if r.kind == POINTS]


def test_nobody_waits_for_the_device_and_the_order_is_that_of_the_calls(device: Device) -> None:
    session = forge.session("device")
    session.log(0, loss=0.5)
    loss = Tensor(device, 1.0)
    session.log(1, loss=loss)
    loss.value = 99.0  # the next step overwrites it in place
    session.log(2, loss=2.0)
    time.sleep(0.2)  # the pump has had its turns
    assert steps(session) == [(0, 0.5)]
    assert not device.waited.is_set()
    device.done = device.launched
    deadline = time.monotonic() + 20
    while len(steps(session)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert steps(session) == [(0, 0.5), (1, 1.0), (2, 2.0)]
    assert not device.waited.is_set()


def test_a_row_is_stamped_when_it_was_logged(device: Device) -> None:
    session = forge.session("device")
    before = time.time()
    session.log(1, loss=Tensor(device, 1.0))
    after = time.time()
    time.sleep(0.1)
    session.flush()
    (stamp,) = forge.load(session.id).to_pandas().time
    assert before <= stamp <= after
    assert device.waited.is_set()  # flush does wait


def test_an_event_comes_after_the_rows_before_it(device: Device) -> None:
    session = forge.session("device")
    for step in range(40):
        session.log(step, loss=Tensor(device, float(step)), lr=0.1)
    session.finish()
    assert steps(session) == [(step, float(step)) for step in range(40)]
    last = [record.kind for record in read_log(session.folder / "run.log")][-1]
    assert last != POINTS


def test_rows_wait_in_order_also_behind_a_compiled_log(device: Device) -> None:
    session = forge.session("device")
    for step in range(40):
        session.log(step, loss=float(step))
    assert "log" in session.__dict__  # compiled
    session.log(40, loss=Tensor(device, 40.0))
    session.log(41, loss=41.0)
    assert len(steps(session)) == 40
    session.flush()
    session.log(42, loss=42.0)
    assert steps(session) == [(step, float(step)) for step in range(43)]


def test_a_device_that_never_answers_does_not_fill_the_memory(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferred, "MAX_ROWS", 10)
    session = forge.session("device")
    for step in range(25):
        session.log(step, loss=Tensor(device, 1.0))
    session.finish()
    assert len(steps(session)) == 10
    assert forge.load(session.id).status["lost"] == 15
