"""Rows that are read and folded many at a time: the same as one by one, whatever the log holds."""

from __future__ import annotations

import math
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forge_notebook.core.catalog import Catalog
from forge_notebook.core.follower import Follower, replay_rows
from forge_notebook.core.frames import CRC, RANK_SHIFT, SYNC, layout
from forge_notebook.core.progress import Clock
from forge_notebook.core.runlog import EVENT, POINTS, SESSION, Reader, Record, Rows, Writer

START = 1_700_000_000_000_000_000
METRICS = [
    ("loss",),
    ("loss", "lr"),
    ("val_loss", "loss"),
    ("rank_train", "rank_val"),
    ("loss", "b_loss"),
]
EVENTS = ["training_started", "paused", "resumed", "checkpoint_saved", "model_completed"]
SPOILS = ["nothing", "drop", "flip", "cut", "twice", "shuffle"]


class OneByOne(Reader):
    """Gives every row by itself, and so every row is folded by itself."""

    def read(self, limit: int = 100_000, *, grouped: bool = False) -> list[Record]:
        return super().read(limit)


def write(path: Path, chance: random.Random) -> None:
    """A log of anything: models and metrics in turn, odd values, stalls, events, two ranks."""
    path.unlink(missing_ok=True)
    writers = [Writer(path), Writer(path, rank=1)]
    now = START
    writers[0].append_json(SESSION, {"time": now, "models": 2, "totalSteps": 500})
    for _ in range(chance.randint(1, 8)):
        writer = writers[chance.random() < 0.2]
        step = chance.randrange(500)
        models = chance.choice([(0,), (0,), (1,), (0, 1), (3,)])
        names = chance.choice(METRICS)
        every = chance.choice([1, 1, 1, 3])  # rows of one model before the other's turn
        odd = chance.choice([0.0, 0.01, 0.02, 0.3])
        gap = chance.choice([0, 10**6, 10**8])
        for row in range(chance.choice([1, 3, 15, 16, 17, 40, 300, 700])):
            values = [chance.gauss(2, 0.1) * 0.999**row for _ in names]
            if chance.random() < odd:
                values[-1] = chance.choice([math.nan, -math.inf, 1e300, 50.0, 50.0, 50.0])
                values[0] = chance.choice([values[0], values[-1]])
            if chance.random() < 0.005:
                now += chance.choice([-(10**9), 10**12])
            now += gap
            model = models[row // every % len(models)]
            writer.append_point(step + row, model, dict(zip(names, values, strict=True)), now)
        event: dict[str, Any] = {"event": chance.choice(EVENTS), "time": now}
        writer.append_json(EVENT, {**event, "model": chance.choice([None, 0, 1]), "data": {}})
    for writer in writers:
        writer.abandon()


def spoil(path: Path, how: str, chance: random.Random) -> None:
    """What disks, kills and copies do to a file."""
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    if how == "drop":  # whole records that never came, as on a full disk
        first = data.rfind(SYNC, 0, at + 1)
        del data[first : data.find(SYNC, first + 1)]
    elif how == "flip":
        data[at] ^= 1 << chance.randrange(8)
    elif how == "cut":
        del data[at : at + chance.randint(1, 200)]
    elif how == "twice":
        data += data[at : at + 20_000]
    elif how == "shuffle":
        data = data[: at // 2] + data[at:] + data[at // 2 : at]
    path.write_bytes(data)


def read(reader: Reader, chance: random.Random, *, grouped: bool) -> list[Any]:
    """Every record by itself, as text: a NaN is the same as another one."""
    found: list[Any] = []
    while records := reader.read(chance.randint(1, 400), grouped=grouped):
        for seq, kind, data in records:
            if kind != POINTS:
                found.append(repr((seq, data)))
                continue
            rows = Rows.of(data)
            each = zip(rows.times_ns, rows.steps, *rows.values, strict=True)
            found += [repr((seq + n, rows.model, rows.names, row)) for n, row in enumerate(each)]
    return found


def plain(value: Any) -> Any:
    """An object with all that it holds, as values that can be compared."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return [(plain(key), plain(part)) for key, part in value.items()]
    if isinstance(value, (list, tuple)) or type(value).__name__ == "deque":
        return [plain(part) for part in value]
    if isinstance(value, set):
        return sorted(map(repr, value))
    return plain(vars(value)) if hasattr(value, "__dict__") else repr(value)


def folded(folder: Path, reader: Reader, chance: random.Random, keep_rows: int) -> Any:
    follower = Follower(folder, keep_rows=keep_rows)
    follower._reader = reader
    while follower.read(chance.randint(1, 400)):
        pass
    grow = [(c._steps_grow, c._times_grow) for c in follower.curves._columns.values()]
    curves = (follower.curves.frozen(), grow)
    return plain((follower.state, curves, follower._events, follower._snapshots))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), how=st.sampled_from(SPOILS), keep=st.sampled_from([0, 7]))
def test_grouped_rows_are_the_same_as_each_by_itself(
    tmp_path: Path, seed: int, how: str, keep: int
) -> None:
    log, chance = tmp_path / "run.log", random.Random(seed)
    write(log, chance)
    spoil(log, how, chance)
    many, each = Reader(log), OneByOne(log)
    assert read(many, chance, grouped=True) == read(each, chance, grouped=False)
    assert many.frozen() == each.frozen()
    expected = folded(tmp_path, OneByOne(log), chance, keep)
    assert folded(tmp_path, Reader(log), chance, keep) == expected


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), after=st.floats(0, 1.1), limit=st.integers(1, 400))
def test_rows_folded_again_are_the_snapshots_of_the_first_time(
    tmp_path: Path, seed: int, after: float, limit: int
) -> None:
    log, chance = tmp_path / "run.log", random.Random(seed)
    write(log, chance)
    follower = Follower(tmp_path, keep_rows=10_000)
    follower._reader = OneByOne(log)
    follower.read(100_000)
    cursor = int(after * follower.state.seq)
    first_time = [{**row, "seq": seq} for seq, row in follower._snapshots if seq > cursor][:limit]
    assert replay_rows(log, limit, cursor) == first_time


def test_rows_that_are_alike_come_grouped(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run.log")
    for step in range(1000):
        writer.append_point(step, 0, {"loss": 1.0})
    for step in range(30):  # two models in turn are never alike
        writer.append_point(step, 1 - step % 2, {"loss": 1.0})
    for step in range(9):
        writer.append_point(step, step // 3, {"loss": 1.0})
    writer.abandon()
    sizes = [len(Rows.of(r.data).steps) for r in Reader(writer.path).read(grouped=True)]
    assert sizes == [256, 256, 256, 232, *[1] * 29, 4, 3, 2 + 1]
    assert [len(Rows.of(r.data).steps) for r in Reader(writer.path).read()] == [1] * 1039
    few = Reader(writer.path).read(10, grouped=True)
    assert [len(Rows.of(r.data).steps) for r in few] == [10]


def test_the_last_seq_of_a_rank_is_not_followed_by_the_first_of_the_next(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run.log")
    writer.append_point(0, 0, {"loss": 1.0})  # and the columns record before it
    writer.abandon()
    row = layout(0, 1)
    with open(writer.path, "ab") as log:
        for n in range(-3, 3):
            frame = row.pack(row.head, (1 << RANK_SHIFT) + n, START, n, 0, row.columns, 1.0)
            log.write(frame + CRC.pack(zlib.crc32(frame)))
    many, each = Reader(writer.path), Reader(writer.path)
    assert len(each.read()) == 4
    assert [len(Rows.of(r.data).steps) for r in many.read(grouped=True)] == [1, 3]
    assert many.frozen() == each.frozen()


def test_the_clock_knows_the_time_of_each_row() -> None:
    clock = Clock()
    clock.start(100.0)
    clock.tick([101.0, 104.0, 103.0], [1, 2, 3])  # set back: no time is taken back
    assert clock.later_half() == ((1.0, 1), (4.0, 3))
    clock.pause(105.0)
    clock.tick([205.0], [4])
    assert clock.later_half() == ((1.0, 1), (5.0, 4))


@pytest.mark.parametrize("rows", [1, 5000])
def test_the_list_folds_grouped_rows(tmp_path: Path, rows: int) -> None:
    writer = Writer(tmp_path / "20260101-000000-s-abcd" / "run.log")
    writer.append_json(SESSION, {"time": START, "models": 1, "totalSteps": rows})
    for step in range(rows):
        writer.append_point(step + 1, 0, {"loss": float(step)}, START + step * 10**7)
    writer.abandon()
    (listed,) = Catalog(tmp_path).sessions()
    assert listed["metrics"] is not None
    assert listed["metrics"]["currentStep"] == rows
    assert listed["metrics"]["overallProgress"] == 100
