"""``forge-notebook check`` passes here, and does not where something is broken."""

from __future__ import annotations

import json

import pytest

from forge_notebook.cli import _check_clients as check
from forge_notebook.cli import main
from forge_notebook.server.page import STATIC


def results(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str | None]]:
    status = main(["check", "--json"])
    found = json.loads(capsys.readouterr().out)
    return status, {what: result["error"] for what, result in found.items()}


@pytest.mark.skipif(not (STATIC / "dashboard.html").exists(), reason="the front end is not built")
def test_everything_is_checked_and_works(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = results(capsys)
    assert {what: error for what, error in found.items() if error is not None} == {}
    assert status == 0
    assert [what for what in found if what.startswith("every number")] == [
        "every number by WebSocket",
        "every number by long poll",
        "every number by Socket.IO, WebSocket",
        "every number by Socket.IO, polling",
    ]


def test_a_wrong_number_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = check.Client.take

    def falsified(self: check.Client, event: str, data: dict[str, object]) -> None:
        if self.name == "long poll":
            for block in data.get("series", []):  # type: ignore[attr-defined]
                block["values"][0][-1] += 1e-9
        take(self, event, data)

    monkeypatch.setattr(check.Client, "take", falsified)
    status, found = results(capsys)
    assert status == 1
    assert "not the same" in str(found["every number by long poll"])
    assert found["every number by WebSocket"] is None
