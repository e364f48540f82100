"""Measured rows as text, as JSON and as the table of the README."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from forge_notebook.bench import OURS, Row

BEGIN, END = "<!-- bench: written by forge-notebook bench -->", "<!-- bench: end -->"
PACKAGES = ("forge-notebook", "jupyter_server", "tornado", "torch", "numpy",
            "trackio", "wandb", "tensorboard")  # fmt: skip

Areas = Mapping[str, Sequence[Row]]
Setting = dict[str, Any]


def setting() -> Setting:
    """When and where: ask before measuring, the load is what was there without us."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return dict(
        date=time.strftime("%Y-%m-%d"),
        machine=f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        python=platform.python_version(),
        versions=versions,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def as_json(areas: Areas, where: Setting) -> dict[str, Any]:
    """The rows with the machine they were measured on."""
    rows = [
        {"area": area, **asdict(row), "ratio": row.ratio, "ok": row.ok}
        for area, found in areas.items()
        for row in found
    ]
    return {**where, "rows": rows}


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    return "\n".join(
        f"{row.name:<44} {row.value:>12.4g} {row.unit:<8} {_goal(row):<16} {_verdict(row):<7} "
        f"{_ratio(row)}{'  ' + row.note if row.note else ''}"
        for row in rows
    )


def markdown(areas: Areas, where: Setting) -> str:
    """The rows as a table for people, with what they were measured on."""
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    lines = [
        f"Measured on {where['date']}: {where['machine']}, load {where['load']} before the run, "
        f"Python {where['python']}, {versions}.",
        "",
        *_comparison([row for rows in areas.values() for row in rows]),
        "<details><summary>Every row, with its goal and what stands beside it</summary>",
        "",
        "| area | what | measured | goal | | beside, in the same run |",
        "|---|---|---:|---|---|---|",
    ]
    for area, rows in areas.items():
        for row in rows:
            beside = "; ".join(part for part in (_ratio(row), row.note) if part)
            cells = (
                area,
                row.name,
                f"{row.value:.4g} {row.unit}",
                _goal(row),
                _verdict(row),
                beside,
            )
            lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join([*lines, "", "</details>"])


def _comparison(rows: Sequence[Row]) -> list[str]:
    """What was measured of other recorders too: a line each, a column for everybody."""
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        peer, _, what = row.name.partition(": ")
        if row.reference == OURS and what:
            line = lines.setdefault(what, {OURS: f"{row.reference_value:.4g} {row.unit}"})
            line[peer] = f"{row.value:.4g} {row.unit}"
    if not lines:
        return []
    who = dict.fromkeys(name for line in lines.values() for name in line)
    table = [
        f"| beside others, in the same run | {' | '.join(who)} |",
        f"|---{'|---:' * len(who)}|",
        *(f"| {what} | {' | '.join(line.get(name, '') for name in who)} |"
          for what, line in lines.items()),
    ]  # fmt: skip
    return [*table, ""]


def write_into(file: Path, text: str) -> None:
    """Put the text between the two marks of a Markdown file; ValueError where it has none."""
    before, begin, rest = file.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{file} has no lines {BEGIN!r} and {END!r} to write the table between")
    file.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def _goal(row: Row) -> str:
    return "" if row.goal is None else f"{'>=' if row.more_is_better else '<='} {row.goal:g}"


def _verdict(row: Row) -> str:
    return {True: "ok", False: "MISSED", None: ""}[row.ok]


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return ""
    return f"{row.ratio:.2f} x {row.reference} ({row.reference_value:.4g} {row.unit})"
