"""JSON lines: the session, every row and every event in their order; nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forge_notebook.core.wire import dumps, jsonable
from forge_notebook.integrations.formats.loose import loose_run, number
from forge_notebook.integrations.formats.run import FormatError, Row, Run


def write(run: Run, path: Path) -> None:
    """One object a line: the session, then ``{step, time_ns, model, metrics}`` and events.

    NaN and infinities are the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.
    """
    with open(path, "w", encoding="utf-8") as file:
        file.write(dumps({"session": jsonable(run.session)}) + "\n")
        for item in run.in_order():
            if isinstance(item, Row):
                item = {**item._asdict(), "metrics": item.metrics}
            file.write(dumps(jsonable(item)) + "\n")


def read(path: Path) -> list[Run]:
    """Ours, or any file with one flat object a line."""
    lines = _lines(path)
    first = next(lines, None)
    if first is None:
        raise FormatError(f"{path.name} is empty")
    if "session" not in first:
        return [loose_run(path.stem, [first, *lines], path)]
    run = Run(first["session"], [])
    for line in lines:
        if "event" in line:
            run.events.append((len(run.rows), line))
        else:
            metrics = {name: _float(path, value) for name, value in line["metrics"].items()}
            run.rows.append(Row(line["time_ns"], line["step"], line["model"], metrics))
    return [run]


def _float(path: Path, value: Any) -> float:
    found = number(value)
    if found is None:
        raise FormatError(f"{path.name}: {value!r} is not a number")
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        for index, line in enumerate(file, 1):
            if line.strip():
                try:
                    value = json.loads(line)
                except ValueError as error:
                    raise FormatError(f"{path.name}, line {index}: {error}") from None
                if not isinstance(value, dict):
                    raise FormatError(f"{path.name}, line {index} is not a JSON object")
                yield value
