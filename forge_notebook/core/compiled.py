"""``log`` compiled for one set of metrics: it costs what ``write(2)`` costs, and as much again.

The general way builds a dict of the metrics and looks up how a row of those names is packed, each
time: 1.9 us beside a ``write(2)`` of 1.0 us. A function with the names as its parameters has them
as local variables: 1.1 us (``forge-notebook bench hook``). It is made from a template, as
``collections.namedtuple`` and ``dataclasses`` make theirs, and hands whatever is not plain
(another set of metrics, a tensor, a full disk, a status that must move first) to the general way.
"""

from __future__ import annotations

import keyword
import os
import time
import zlib
from collections.abc import Callable
from typing import Any

from forge_notebook.core.frames import CRC
from forge_notebook.core.writer import Writer

RESERVED = frozenset({"step", "model", "OSError", "Exception"})
MAX_METRICS = 60  # above, packing is what costs

_TEMPLATE = """
def make(_writer, _steps, _numbers, _general, _os, _time, _crc, _crc32, _pack, _head, _columns, _size):
    def log(step=None, *, model=0, {parameters}, **_more):
        if (
            _more or _writer.held or _writer.waiting or _writer.error or step.__class__ is not int
            or not ({checks})
        ):
            _given = [{pairs}]
            return _general(
                step, model=model, **{{n: v for n, v in _given if v is not _general}}, **_more
            )
        _taken = False
        with _writer.lock:
            try:
                _seq = _writer.seq + 1
                _frame = _pack(_head, _seq, _time.time_ns(), step, model, _columns, {values})
                _frame += _crc(_crc32(_frame))
                if _writer.seq + 1 == _seq:  # no signal handler wrote meanwhile: see Writer
                    _writer.seq = _seq
                    _taken = True
                    if _os.write(_writer.fd, _frame) != _size:
                        _writer.lose(OSError(28, "only a part of a record was written"))
                    _steps[model] = step
                    return
            except OSError as _error:
                _steps[model] = step
                _writer.lose(_error)
                return
            except Exception:  # a number that does not fit: the general way says which
                if _taken:  # no: what a signal handler raised, and the row is written
                    raise
        _general(step, model=model, {same}, **_more)
    return log
"""  # noqa: E501


def compilable(names: tuple[str, ...]) -> bool:
    """Whether these names can be parameters of a function."""
    return 0 < len(names) <= MAX_METRICS and all(
        name.isidentifier()
        and not name.startswith("_")
        and not keyword.iskeyword(name)
        and name not in RESERVED
        for name in names
    )


def compile_log(
    writer: Writer,
    names: tuple[str, ...],
    steps: dict[int, int],
    numbers: set[type],
    general: Callable[..., None],
) -> Callable[..., None]:
    """``log(step, *, model=0, **metrics)`` for rows of exactly these metrics.

    ``steps`` takes the last step of each model; ``numbers`` are the types of values that are
    packed as they are; ``general`` gets every call that is not plain.
    """
    source = _TEMPLATE.format(
        parameters=", ".join(f"{name}=_general" for name in names),
        checks=" and ".join(
            f"({n}.__class__ is float or {n}.__class__ in _numbers)" for n in names
        ),
        pairs=", ".join(f"({name!r}, {name})" for name in names),
        values=", ".join(names),
        same=", ".join(f"{name}={name}" for name in names),
    )
    scope: dict[str, Any] = {}
    exec(source, scope)  # names were checked to be identifiers
    made: Callable[..., None] = scope["make"](
        writer, steps, numbers, general, os, time, CRC.pack, zlib.crc32, *writer.layout(names)
    )
    made.__doc__ = general.__doc__
    return made
