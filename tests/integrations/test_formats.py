"""Export and import: round trips lose nothing, and a file that is not right is said to be so."""

from __future__ import annotations

import json
import math
import os
import re
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

import forge_notebook as forge
from forge_notebook.integrations.formats.run import FormatError, MissingLibrary, recorded
from forge_notebook.integrations.history import History


@pytest.fixture
def history() -> History:
    config = {"lr": 3e-4, "text": "</script><b>ü"}
    session = forge.session("A run </script>", config=config, total_steps=5, models=2)
    session.model_started(0, name="one", params=7)
    taken: dict[str, Any] = {"loss": 0.1 + 0.2, "time": 5.0, "metric:odd": 1.0}
    session.log(1, **taken)
    session.log(2, loss=math.nan, val_loss=math.inf)
    session.event("alert", step=2, kind="nan", message="<img src=x onerror=alert(1)>")
    session.log(2, loss=-math.inf, zero=-0.0)
    session.log(3)
    session.model_completed(0)
    session.log(1, model=1, loss=5e-324, step_time=1.7976931348623157e308)
    session.finish()
    return forge.load(session.id)


def rows(history: History, *, ns: bool = True) -> list[Any]:
    return [
        (row.time_ns if ns else None, row.step, row.model, sorted(map(repr, row.metrics.items())))
        for row in recorded(history.log).rows
    ]


def events(history: History) -> list[Any]:
    return [(at, e["event"], e["time"], e["data"]) for at, e in recorded(history.log).events]


@pytest.mark.parametrize("end", ["csv", "jsonl", "parquet"])
def test_a_round_trip_loses_no_bit_of_a_row(history: History, tmp_path: Path, end: str) -> None:
    (back,) = forge.import_runs(history.export(tmp_path / f"run.{end}"))
    assert rows(back) == rows(history)
    assert len(rows(back)) == 5
    assert back.id != history.id


@pytest.mark.parametrize("end", ["jsonl", "parquet"])
def test_a_round_trip_keeps_events_config_and_status(
    history: History, tmp_path: Path, end: str
) -> None:
    (back,) = forge.import_runs(history.export(tmp_path / f"run.{end}"))
    assert events(back) == events(history)
    was, now = history.status, back.status
    own = {"sessionId", "pid", "seq"}
    assert {k: v for k, v in now.items() if k not in own | {"marks"}} == {
        k: v for k, v in was.items() if k not in own | {"marks"}
    }


def test_tensorboard_keeps_values_steps_models_and_events(history: History, tmp_path: Path) -> None:
    (back,) = forge.import_runs(history.export(tmp_path / "logs"))
    with_values = [row for row in rows(history, ns=False) if row[3]]  # no event without a value
    assert rows(back, ns=False) == with_values
    assert [e[1:] for e in events(back)] == [e[1:] for e in events(history)]
    times = [r.time_ns for r in recorded(history.log).rows if r.metrics]
    found = [r.time_ns for r in recorded(back.log).rows]
    assert all(abs(a - b) < 500 for a, b in zip(times, found, strict=True))
    assert back.status["models"][0]["name"] == "one"


def test_tensorboard_itself_shows_what_was_exported(history: History, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history.export(tmp_path / "logs")
    shown = EventAccumulator(str(tmp_path / "logs" / "model_1"))
    shown.Reload()
    assert "loss" in shown.Tags()["tensors"]
    meta = shown.SummaryMetadata("loss")
    assert meta.plugin_data.plugin_name == "scalars"


def test_what_torchs_summary_writer_wrote_is_imported(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "runs" / "a")) as writer:
        for step in range(3):
            writer.add_scalar("loss", 1.0 / (step + 1), step)
            writer.add_scalar("odd", math.nan, step)
        writer.add_text("note", "hello")
    with SummaryWriter(str(tmp_path / "runs" / "b" / "c")) as writer:
        writer.add_scalar("loss", 2.5, 7)
    one, two = forge.import_runs(tmp_path / "runs")
    assert (one.name, two.name) == ("a", "b/c")
    frame = one.to_pandas()
    assert frame.loss.dropna().tolist() == pytest.approx([1.0, 0.5, 1 / 3])
    assert frame.step.max() == 2
    assert sum(map(math.isnan, (r.metrics["odd"] for r in recorded(one.log).rows
                                if "odd" in r.metrics))) == 3  # fmt: skip
    assert one.status["config"]["leftOut"] == ["note/text_summary"]
    assert one.status["status"] == "stopped"


def test_csv_of_other_tools(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("Wall time,Step,Value,note\n1700000000.5,10,0.5,a\n1700000001.5,20,nan,b\n")
    (run,) = forge.import_runs(file)
    frame = run.to_pandas()
    assert frame.step.tolist() == [10, 20]
    assert frame.time.tolist() == [1700000000.5, 1700000001.5]
    assert frame.Value[0] == 0.5
    assert math.isnan(frame.Value[1])
    assert run.status["config"] == {"leftOut": ["note"]}
    os.utime(file, (1000, 1000))
    file.write_text("loss\n3\n2\n")
    os.utime(file, (1000, 1000))
    (run,) = forge.import_runs(file)
    assert run.to_pandas()[["step", "time", "loss"]].values.tolist() == [[1, 1000, 3], [2, 1000, 2]]


def test_jsonl_of_other_tools(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    lines = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": "NaN", "note": "x"}]
    file.write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 3, "loss": Infinity}\n')
    (run,) = forge.import_runs(file)
    values = [r.metrics["loss"] for r in recorded(run.log).rows]
    assert values[0] == 0.5
    assert math.isnan(values[1])
    assert values[2] == math.inf


def test_neptune_exporters_parquet(tmp_path: Path) -> None:
    from datetime import datetime, timezone
    from decimal import Decimal

    import pyarrow as pa
    from pyarrow import parquet

    # The columns of neptune-exporter's storage schema (its README, "Data format").
    schema = pa.schema(
        [
            ("project_id", pa.string()), ("run_id", pa.string()), ("attribute_path", pa.string()),
            ("attribute_type", pa.string()), ("step", pa.decimal128(18, 6)),
            ("timestamp", pa.timestamp("ms", "UTC")), ("int_value", pa.int64()),
            ("float_value", pa.float64()), ("string_value", pa.string()),
            ("bool_value", pa.bool_()), ("datetime_value", pa.timestamp("ms", "UTC")),
        ]
    )  # fmt: skip
    at = datetime(2026, 1, 2, tzinfo=timezone.utc)

    def row(path: str, kind: str, **values: Any) -> dict[str, Any]:
        return {"project_id": "p", "run_id": "R-1", "attribute_path": path,
                "attribute_type": kind, **values}  # fmt: skip

    data = [
        row("sys/name", "string", string_value="my run"),
        row("lr", "float", float_value=0.1),
        row("loss", "float_series", step=Decimal("0.5"), timestamp=at, float_value=2.0),
        row("acc", "float_series", step=Decimal("0.5"), timestamp=at, float_value=math.nan),
        row("loss", "float_series", step=Decimal(1), timestamp=at, float_value=1.0),
    ]
    parquet.write_table(pa.Table.from_pylist(data, schema=schema), tmp_path / "part_0.parquet")
    (run,) = forge.import_runs(tmp_path)
    assert run.name == "my run"
    assert run.status["config"] == {"sys/name": "my run", "lr": 0.1, "stepScale": 10}
    assert [(r.step, r.metrics.get("loss")) for r in recorded(run.log).rows] == [(5, 2), (10, 1)]
    assert recorded(run.log).rows[0].time_ns == int(at.timestamp()) * 10**9


def test_errors_say_what_to_do(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FormatError, match="no format 'xyz'; there are csv"):
        history.export(tmp_path / "run.xyz")
    with pytest.raises(FormatError, match="does not exist"):
        forge.import_runs(tmp_path / "nothing.csv")
    with pytest.raises(FormatError, match="nothing to import"):
        forge.import_runs(tmp_path)
    for name, content in {
        "a.csv": "step,loss\nx,1\n", "b.jsonl": "{\n", "c.parquet": "no", "d.wandb": "no",
        "e.db": "no, not a database of any kind, however long this text may get", "f.csv": "",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(content)
        with pytest.raises(FormatError, match=name[:1]):
            forge.import_runs(tmp_path / name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingLibrary, match="pip install pyarrow"):
        history.export(tmp_path / "run.parquet")
    assert len(forge.sessions()) == 1  # nothing half imported


def test_html_is_one_small_file_without_network_or_injection(tmp_path: Path) -> None:
    session = forge.session("</script><script>alert(1)</script>", config={"x": "<!--<script>"})
    for step in range(100_000):
        session.log(step, loss=1.0 + (step == 77_777) * 99.0 + step % 7 / 10, acc=step % 11 / 11)
    session.log(100_000, loss=math.nan)
    session.finish()
    file = forge.load(session.id).export(tmp_path / "run.html")
    page = file.read_text(encoding="utf-8")
    assert file.stat().st_size < 2_000_000
    assert page.count("</script") == 2
    assert "https://" not in re.sub(r"/\*.*?\*/", "", page[-60_000:], flags=re.S)
    text = page.partition('id="data">')[2].partition("</script>")[0]
    data = json.loads(text)
    (loss,) = (c for c in data["curves"] if c["metric"] == "loss")
    assert (77_777, pytest.approx(100, abs=1)) in zip(loss["x"], loss["y"], strict=True)
    assert loss["total"] == 100_001
    assert loss["odd"] == [[100_000, "NaN"]]


@pytest.mark.parametrize(("end", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_pictures(history: History, tmp_path: Path, end: str, magic: bytes) -> None:
    assert history.export(tmp_path / f"x.{end}").read_bytes().startswith(magic)


def test_a_torn_wandb_file_gives_what_was_complete(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        assert len(content) < 128
        return bytes([number << 3 | 2, len(content)]) + content

    def item(key: str, value: str) -> bytes:
        return field(1, field(2, key.encode()) + b"\x82\x01" + bytes([len(value)]) + value.encode())

    def record(step: int, loss: str) -> bytes:
        row = item("_step", str(step)) + item("_timestamp", "1700000000.25") + item("loss", loss)
        body = field(2, row)
        return struct.pack("<IHB", 0, len(body), 1) + body

    data = b":W&B\xe1\xbe\x00" + record(1, "0.5") + record(2, "NaN") + record(3, "1")[:-3]
    (tmp_path / "run-abc.wandb").write_bytes(data)
    (run,) = forge.import_runs(tmp_path)
    found = recorded(run.log).rows
    assert [row.step for row in found] == [1, 2]
    assert found[0].time_ns == 1_700_000_000_250_000_000
    assert math.isnan(found[1].metrics["loss"])
