"""A small table for notebooks and terminals. Every cell is text: nothing becomes HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


class Table:
    """Rows with the same keys; ``None`` is a dash."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.columns = list(rows[0]) if rows else []
        self.cells = [[cell(row.get(name)) for name in self.columns] for row in rows]
        self._right = [
            all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
            for name in self.columns
        ]

    def html(self) -> str:
        """For ``_repr_html_``."""
        if not self.cells:
            return "<p>no sessions</p>"
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>"
            for row in self.cells
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def text(self) -> str:
        """Aligned columns."""
        if not self.cells:
            return "no sessions"
        lines = [self.columns, *self.cells]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        return "\n".join(
            "  ".join(
                text.rjust(width) if right else text.ljust(width)
                for text, width, right in zip(line, widths, self._right, strict=True)
            ).rstrip()
            for line in lines
        )


def cell(value: Any) -> str:
    """One value as text: six digits, no line breaks, ``-`` where it is not known."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"
