"""SPEC's usage examples, as written apart from the import path, and each option of its API."""

from __future__ import annotations

import gzip
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forge_notebook import PerformanceOptimizer, StreamingIntegration, TrainingProgressEmitter
from forge_notebook.core.errors import UnknownSession
from forge_notebook.server.hub import TICK_S

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning:torch")


@pytest.fixture
def emitter() -> Iterator[TrainingProgressEmitter]:
    emitter = TrainingProgressEmitter()
    yield emitter
    emitter.close()


def get(url: str, **headers: str) -> tuple[Any, Any]:
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        body = reply.read()
        if reply.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        return json.loads(body), reply.headers


def test_basic_integration_as_written_in_spec(store: Path) -> None:
    # Initialize
    integration = StreamingIntegration()
    integration.initialize_components()

    # Create session
    session_id = integration.create_training_session({
        'model_count': 3,
        'batch_size': 32,
        'epochs': 50
    })  # fmt: skip

    seen: list[str] = []

    def custom_callback(progress_data: dict[str, Any]) -> None:
        seen.append(f"Model {progress_data['currentModel']}: {progress_data['loss']:.4f}")

    creator = integration.trainer(session_id)
    creator.set_progress_callback(custom_callback)

    # Start training
    integration.start_training_session(session_id)

    deadline = time.monotonic() + 60
    while not seen and time.monotonic() < deadline:
        time.sleep(0.05)
    status = integration.get_session_status(session_id)
    assert status["status"] == "running"
    assert status["totalModels"] == 3
    integration.close()
    stats = integration.get_integration_stats()
    assert seen[0].startswith("Model 1: ")
    assert stats["sessions_created"] == 1
    assert stats["total_metrics_processed"] >= len(seen) >= 1
    assert stats["transformations_successful"] == stats["total_metrics_processed"]
    assert stats["websocket_messages_sent"] == 0
    assert stats["errors_encountered"] == 0
    assert stats["active_sessions"] == 0
    assert integration.get_session_status(session_id)["status"] == "stopped"
    with pytest.raises(UnknownSession):
        integration.get_session_status("nobody")


def test_websocket_and_performance_configuration_as_written_in_spec() -> None:
    emitter = TrainingProgressEmitter()
    optimizer = PerformanceOptimizer(
        max_update_rate=10.0,      # Max updates per second
        throttle_enabled=True,     # Enable throttling
        payload_compression=True   # Enable compression
    )  # fmt: skip
    assert emitter.optimizer == optimizer
    with pytest.raises(ValueError, match="max_update_rate=0"):
        PerformanceOptimizer(max_update_rate=0)


def test_what_is_emitted_is_served(emitter: TrainingProgressEmitter) -> None:
    url = emitter.serve(0, ["http://localhost:3000"])
    session_id = emitter.create_session({"model_count": 2, "lr": 0.1}, total_steps=2)
    emit = emitter.callback(session_id)
    for model in (1, 2):
        for step in (1, 2):
            emit({"currentModel": model, "currentStep": step, "loss": 1.0 / step, "lr": 0.1,
                  "perplexity": 99.0, "sessionId": session_id})  # fmt: skip
        emitter.emit_model_completed(session_id, model - 1)
    metrics, _ = get(f"{url}/api/training/metrics/{session_id}")
    assert metrics["data"]["loss"] == 0.5
    assert metrics["data"]["perplexity"] == 1.65  # computed, not what was claimed
    assert metrics["data"]["extra"]["lr"] == 0.1
    emitter.emit_training_completed(session_id)
    reply, headers = get(f"{url}/api/training/status/{session_id}", Origin="http://localhost:3000")
    assert reply["data"]["status"] == "completed"
    assert reply["data"]["metrics"]["overallProgress"] == 100
    assert headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    with pytest.raises(RuntimeError, match="listens on"):
        emitter.serve(0)
    with pytest.raises(UnknownSession):
        emitter.emit_progress("nobody", {"loss": 1.0})


def test_a_taken_port_is_an_error(emitter: TrainingProgressEmitter) -> None:
    emitter.serve(0)
    assert emitter.server is not None
    with pytest.raises(OSError, match=r"[Aa]ddress"):
        TrainingProgressEmitter().serve(emitter.server.port)


@pytest.mark.parametrize("compression", [True, False])
def test_payload_compression_is_gzip_of_http_answers(compression: bool) -> None:
    emitter = TrainingProgressEmitter(PerformanceOptimizer(payload_compression=compression))
    url = emitter.serve(0)
    session_id = emitter.create_session()
    for step in range(1, 200):
        emitter.emit_progress(session_id, {"currentStep": step, "loss": 1.0})
    reply, headers = get(f"{url}/api/training/history/{session_id}", **{"Accept-Encoding": "gzip"})
    assert len(reply["data"]) == 100
    assert (headers["Content-Encoding"] == "gzip") is compression
    emitter.close()


@pytest.mark.parametrize(
    ("options", "hz", "least"),
    [
        ({"max_update_rate": 5.0}, 5.0, 4),
        ({"max_update_rate": 20.0}, 20.0, 12),
        # As often as the hub looks; at 5 Hz there would be eight.
        ({"max_update_rate": 5.0, "throttle_enabled": False}, 1 / TICK_S, 12),
    ],
)
def test_the_update_rate_is_what_was_asked_for(
    options: dict[str, Any], hz: float, least: int
) -> None:
    emitter = TrainingProgressEmitter(PerformanceOptimizer(**options))
    url = emitter.serve(0)
    session_id = emitter.create_session()
    emitter.emit_progress(session_id, {"currentStep": 0, "loss": 1.0})
    first, _ = get(f"{url}/api/training/poll/{session_id}")
    after, step = first["data"]["seq"], 0
    for _ in range(10):  # a busy machine falls behind for a second or more, and is never ahead
        updates, rows, began = 0, 0, time.monotonic()
        while time.monotonic() < began + 1.0:
            for _ in range(5):
                step += 1
                emitter.emit_progress(session_id, {"currentStep": step, "loss": 1.0})
            time.sleep(0.002)
            reply, _ = get(f"{url}/api/training/poll/{session_id}?after={after}&wait=1")
            for message in reply["data"]["messages"]:
                if message["event"] == "progress_update":
                    updates += 1
                    rows += sum(len(block["seq"]) for block in message["data"]["series"])
            after = reply["data"]["seq"]
        assert updates <= 3 + hz * (time.monotonic() - began)  # a burst of two, and one under way
        if updates >= least:
            break
    assert updates >= least
    assert rows > updates or not options.get("throttle_enabled", True)
    emitter.close()
