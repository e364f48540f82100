"""Sessions out to other tools' files, and other tools' runs in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from forge_notebook.core.catalog import store_path
from forge_notebook.integrations.formats import (
    csv_file,
    html_file,
    image_file,
    jsonl_file,
    parquet_file,
    tensorboard_files,
    trackio_db,
    wandb_file,
)
from forge_notebook.integrations.formats.run import FormatError, recorded, store_run

if TYPE_CHECKING:
    from forge_notebook.integrations.history import History

WRITERS: dict[str, ModuleType] = {
    "csv": csv_file,
    "jsonl": jsonl_file,
    "parquet": parquet_file,
    "tensorboard": tensorboard_files,
    "html": html_file,
    "png": image_file,
    "svg": image_file,
}
READERS: dict[str, ModuleType] = {
    "csv": csv_file,
    "jsonl": jsonl_file,
    "parquet": parquet_file,
    "tensorboard": tensorboard_files,
    "trackio": trackio_db,
    "wandb": wandb_file,
}
SUFFIXES = {".db": "trackio", ".sqlite": "trackio", ".ndjson": "jsonl", "": "tensorboard"}


def export(history: History, path: str | Path, format: str | None = None) -> Path:
    """Write a session to a file; see ``History.export``."""
    path = Path(path)
    chosen = format or SUFFIXES.get(path.suffix.lower(), path.suffix.lower().lstrip("."))
    if chosen not in WRITERS:
        raise FormatError(f"no format {chosen!r}; there are {', '.join(WRITERS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if chosen in ("html", "png", "svg"):
        WRITERS[chosen].write(history, path)
    else:
        WRITERS[chosen].write(recorded(history.log), path)
    return path


def import_runs(
    path: str | Path, *, format: str | None = None, store: str | Path | None = None
) -> list[History]:
    """Bring other tools' runs into the store: a session for each, with its own steps and times.

    Parameters
    ----------
    path
        A TensorBoard folder or event file, a W&B ``run-*.wandb`` file (or a ``wandb`` folder with
        such files), Trackio's ``.db``, neptune-exporter's or any other Parquet file, CSV, JSON
        lines, or a folder of these.
    format
        One of csv, jsonl, parquet, tensorboard, trackio, wandb; default: by name.
    store
        Folder of all sessions; default ``$FORGE_STORE`` or Jupyter's data folder.

    Returns the sessions, read back. What cannot be a number (texts, images, histograms) is left
    out and named in the session's config under ``leftOut``. A run that does not say how it ended
    is ``stopped``. Raises FormatError where a file is not what it says, and MissingLibrary where
    Parquet or TensorBoard needs one that is not installed.
    """
    from forge_notebook.integrations.history import load

    path = Path(path)
    if not path.exists():
        raise FormatError(f"{path} does not exist")
    target = Path(store) if store else store_path()
    ids = [
        store_run(run, target, source=f"{chosen}:{file.name}")
        for chosen, file in _files(path, format)
        for run in READERS[chosen].read(file)
    ]
    return [load(session_id, store=target) for session_id in ids]


def _files(path: Path, format: str | None) -> Iterator[tuple[str, Path]]:
    """The files to read, each with its format; all of TensorBoard's under a folder are one."""
    if format is not None:
        if format not in READERS:
            raise FormatError(f"no format {format!r}; there are {', '.join(READERS)}")
        yield format, path
        return
    if path.is_file():
        yield _format(path), path
        return
    found = False
    if next(path.rglob(tensorboard_files.PATTERN), None):
        found = True
        yield "tensorboard", path
    seen = set()
    for file in sorted(path.rglob("*")):
        known = file.suffix in (".wandb", ".db", ".parquet", ".csv", ".jsonl") and file.is_file()
        if known and file.resolve() not in seen:  # W&B keeps a link to its latest run
            seen.add(file.resolve())
            found = True
            yield _format(file), file
    if not found:
        raise FormatError(f"nothing to import under {path}; give format= where names differ")


def _format(file: Path) -> str:
    if file.match(tensorboard_files.PATTERN):
        return "tensorboard"
    suffix = file.suffix.lower()
    chosen = SUFFIXES.get(suffix, suffix.lstrip("."))
    if chosen not in READERS or suffix == "":
        raise FormatError(f"{file.name}: give format=, one of {', '.join(READERS)}")
    return chosen
