"""What a cell is measured from besides its settings: this tokprof, the method's file, the model's files, the pictures.

A record keeps a short hash of each, so that a sweep that is taken up again knows what no longer holds. No torch.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path

from tokprof import __version__, policies
from tokprof.errors import TokprofError
from tokprof.models import catalog, hub
from tokprof.recipe import Cell, Workload

WORDS = {
    "tokprof": "another tokprof",
    "method": "another version of the method's file",
    "model": "other files of the model",
    "pictures": "other pictures",
}
NOWHERE = "none"  # of our own making: no file to look at


def sources_of(cell: Cell) -> dict[str, str]:
    return {**light_sources(cell), "model": model_source(cell)}


def light_sources(cell: Cell) -> dict[str, str]:
    """All but the model's files, which may be on the hub still."""
    return {"tokprof": __version__, "method": _method(cell.method.name), "pictures": _pictures(cell.workload)}


def model_source(cell: Cell) -> str:
    folder = _model_folder(cell)
    return NOWHERE if folder is None else _stamp(folder.glob("*"))


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """In words: what a record was made with that is no longer what a run would take."""
    if not then:
        return ["a tokprof that did not note what it ran"]
    return [words for part, words in WORDS.items() if then.get(part) != now.get(part)]


def _method(name: str) -> str:
    path: str | None = name
    if not (name.endswith(".py") or "/" in name):
        try:
            path = inspect.getsourcefile(policies.find(name))
        except (TokprofError, TypeError, OSError):
            path = None
    try:
        return _hash(Path(path).read_bytes()) if path else NOWHERE
    except OSError:
        return NOWHERE


def _pictures(workload: Workload) -> str:
    given = [Path(name) for name in (*workload.images, *([workload.video] if workload.video else ()))]
    files = [file for path in given for file in (sorted(path.glob("*")) if path.is_dir() else [path])]
    return _stamp(files) if files else NOWHERE


def _model_folder(cell: Cell) -> Path | None:
    """On this machine, as it is now: nobody is asked over the network."""
    weights, name = cell.setting.weights, cell.model
    if weights not in ("auto", "random", "hub"):
        return Path(weights).expanduser()
    for entry in catalog.entries():
        if name in (entry.name, entry.repository):
            return entry.folder or (hub.cached(entry.repository) if entry.repository else None)
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else hub.cached(name)


def _stamp(files: Iterable[Path]) -> str:
    """Names, sizes and times of change: weights are too large to be read for this."""
    told = []
    for path in sorted(files):
        if path.is_file():
            seen = path.stat()
            told.append(f"{path.name} {seen.st_size} {seen.st_mtime_ns}")
    return _hash("\n".join(told).encode()) if told else NOWHERE


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
