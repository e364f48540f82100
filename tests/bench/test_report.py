"""The table of the README."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge_notebook.bench import OURS, Row
from forge_notebook.bench.report import BEGIN, END, as_json, markdown, setting, write_into

ROWS = {
    "hook": [
        Row("call", 3.0, "us", "one write(2)", 1.5, goal=2.0),
        Row("kept", 5.0, "rows", goal=4.0, more_is_better=True, note="a | b"),
        Row("size", 1.0, "kB"),
    ]
}


def test_a_missed_goal_is_shown_as_missed_beside_its_reference() -> None:
    lines = markdown(ROWS, setting()).splitlines()
    assert "| hook | call | 3 us | <= 2 | MISSED | 2.00 x one write(2) (1.5 us) |" in lines
    assert "| hook | kept | 5 rows | >= 4 | ok | a / b |" in lines
    assert "| hook | size | 1 kB |  |  |  |" in lines


def test_others_stand_beside_us_in_columns_and_a_gap_stays_empty() -> None:
    rows = [
        Row("trackio: one call", 12.0, "us", OURS, 3.0),
        Row("wandb: one call", 90.0, "us", OURS, 3.0),
        Row("wandb: rows lost", 47.0, "rows", OURS, 0.0),
    ]
    lines = markdown({**ROWS, "peers": rows}, setting()).splitlines()
    assert lines[2:6] == [
        "| beside others, in the same run | ours | trackio | wandb |",
        "|---|---:|---:|---:|",
        "| one call | 3 us | 12 us | 90 us |",
        "| rows lost | 0 rows |  | 47 rows |",
    ]
    assert not [line for line in markdown(ROWS, setting()).splitlines() if "others" in line]


def test_the_setting_names_date_machine_and_versions() -> None:
    where = setting()
    assert {"date", "machine", "load", "python", "versions"} == set(where)
    assert "forge-notebook" in where["versions"]
    assert as_json(ROWS, where)["rows"][0]["ok"] is False


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(file, "new")
    write_into(file, "newer")
    assert file.read_text() == f"before\n{BEGIN}\nnewer\n{END}\nafter\n"
    file.write_text("no marks")
    with pytest.raises(ValueError, match="has no lines"):
        write_into(file, "new")
