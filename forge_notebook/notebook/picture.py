"""The card as a PNG, drawn without a browser: what a saved notebook shows on GitHub and in
nbconvert, where no widget lives. At most about 30 kB."""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from forge_notebook.core.follower import Follower
from forge_notebook.core.wire import SeriesBlock
from forge_notebook.notebook.font import text_mask

WIDTH, HEIGHT = 1440, 640  # twice the shown size, so that it is sharp
LEFT, RIGHT, TOP, BOTTOM = 110, 24, 116, 60
CURVES = {"loss": False, "val_loss": True}  # name -> dashed
POINTS = 600

# Index 0 is the background; the models' hues are Okabe and Ito's, told apart without colour vision.
PALETTE = [
    (255, 255, 255), (222, 222, 222), (70, 70, 70),
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0),
]  # fmt: skip
GRID, INK, HUES = 1, 2, 3

Canvas = NDArray[np.uint8]


def picture(follower: Follower) -> bytes:
    """The session's losses over steps, log y, with its name and state, as PNG bytes."""
    canvas: Canvas = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    _title(canvas, follower)
    blocks = follower.curves.overview(POINTS, metrics=CURVES)
    frame = _frame(blocks)
    if frame is None:
        _text(canvas, LEFT, HEIGHT // 2, "no loss recorded yet", 3)
        return _png(canvas)
    _axes(canvas, frame)
    for block in blocks:
        hue = HUES + block["model"] % (len(PALETTE) - HUES)
        _curve(canvas, frame, block, hue, dashed=CURVES[block["columns"][0]])
    return _png(canvas)


def _title(canvas: Canvas, follower: Follower) -> None:
    state = follower.state
    status = follower.status(detail=False)
    metrics = status["metrics"]
    parts = [status["status"]]
    if metrics is not None:
        if metrics["overallProgress"] is not None:
            parts.append(f"{metrics['overallProgress']:g} %")
        parts += [f"{m.name}: step {m.step}" for m in state.models[:3]]
    _text(canvas, 24, 18, state.name[:70], 3)
    _text(canvas, 24, 54, "  ".join(parts)[:110], 2)


def _frame(blocks: list[SeriesBlock]) -> tuple[float, float, float, float] | None:
    steps = [s for b in blocks for s, v in zip(b["step"], b["values"][0], strict=True) if _shown(v)]
    logs = [math.log10(v) for b in blocks for v in b["values"][0] if v is not None and v > 0]
    if not steps:
        return None
    low, high = min(logs), max(logs)
    pad = max(0.05 * (high - low), 0.02)
    return min(steps), max(max(steps), min(steps) + 1), low - pad, high + pad


def _shown(value: float | None) -> bool:
    return value is not None and value > 0


def _axes(canvas: Canvas, frame: tuple[float, float, float, float]) -> None:
    x0, x1, y0, y1 = frame
    for value in _log_ticks(y0, y1):
        row = _row(math.log10(value), y0, y1)
        canvas[row : row + 2, LEFT : WIDTH - RIGHT] = GRID
        label = f"{value:g}"
        _text(canvas, LEFT - 12 - 12 * len(label), row - 7, label, 2)
    for value in _linear_ticks(x0, x1):
        label = f"{value:g}"
        column = LEFT + round((WIDTH - LEFT - RIGHT) * (value - x0) / (x1 - x0))
        _text(canvas, min(column, WIDTH - RIGHT - 12 * len(label)), HEIGHT - BOTTOM + 14, label, 2)
    _text(canvas, WIDTH // 2 - 30, HEIGHT - 22, "step", 2)
    _text(canvas, 24, TOP - 34, "loss (solid: train, dashed: validation)", 2)


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(d for d in (1, 2, 5, 10) if d * unit >= rough)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(low), math.ceil(high) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [d * 10.0**e for e in decades for d in digits]
        ticks = [t for t in ticks if low <= math.log10(t) <= high]
        if len(ticks) >= 3:
            break
    return ticks[:: max(1, math.ceil(len(ticks) / 6))]


def _row(log_value: float, low: float, high: float) -> int:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (log_value - low) / (high - low))


def _curve(
    canvas: Canvas,
    frame: tuple[float, float, float, float],
    block: SeriesBlock,
    hue: int,
    *,
    dashed: bool,
) -> None:
    x0, x1, y0, y1 = frame
    before: tuple[float, float] | None = None
    travelled = 0.0
    for step, value in zip(block["step"], block["values"][0], strict=True):
        if value is None or value <= 0:
            before = None  # a gap, not a bridge
            continue
        here = (
            LEFT + (WIDTH - LEFT - RIGHT) * (step - x0) / (x1 - x0),
            float(_row(math.log10(value), y0, y1)),
        )
        if before is not None:
            travelled = _segment(canvas, before, here, hue, travelled, dashed=dashed)
        before = here


def _segment(
    canvas: Canvas,
    start: tuple[float, float],
    end: tuple[float, float],
    hue: int,
    travelled: float,
    *,
    dashed: bool,
) -> float:
    length = math.hypot(end[0] - start[0], end[1] - start[1])
    t = np.linspace(0, 1, max(2, math.ceil(length) + 1))
    if dashed:
        t = t[(travelled + t * length) % 20 < 12]
    columns = np.rint(start[0] + t * (end[0] - start[0])).astype(int)
    rows = np.rint(start[1] + t * (end[1] - start[1])).astype(int)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            canvas[
                np.clip(rows + dy, TOP, HEIGHT - BOTTOM), np.clip(columns + dx, LEFT, WIDTH - 1)
            ] = hue
    return travelled + length


def _text(canvas: Canvas, x: int, y: int, text: str, scale: int) -> None:
    mask = text_mask(text, scale)
    x, y = max(0, x), max(0, y)
    area = canvas[y : y + mask.shape[0], x : x + mask.shape[1]]
    area[mask[: area.shape[0], : area.shape[1]]] = INK


def _png(canvas: Canvas) -> bytes:
    lines = np.zeros((HEIGHT, WIDTH // 2 + 1), dtype=np.uint8)  # filter byte 0, two pixels a byte
    lines[:, 1:] = canvas[:, ::2] << 4 | canvas[:, 1::2]
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 4, 3, 0, 0, 0)),
        (b"PLTE", bytes(v for colour in PALETTE for v in colour)),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    ]
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in parts:
        out += struct.pack(">I", len(body)) + kind + body
        out += struct.pack(">I", zlib.crc32(kind + body))
    return out
