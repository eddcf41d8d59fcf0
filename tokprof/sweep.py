"""Cells of one or more recipes, measured one after the other or one per GPU, each written when it is done.

A folder holds one result file per cell, named by the hash of its settings. What has a valid file is
skipped, so that a sweep killed at any moment goes on where it was and loses at most the cells in
flight; unless the files behind it (method, model, pictures) or tokprof are others now. A cell that
cannot be measured leaves its reason instead of a record.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

from tokprof.errors import RecordError, TokprofError
from tokprof.recipe import Cell, Recipe
from tokprof.record import Failure, RecordFile, RunRecord, cell_key, read_records, write_records
from tokprof.sources import changed, sources_of

Entry: TypeAlias = RunRecord | Failure
LOADED = ("model", "setting")  # what cells have in common that share a loaded model
INPUTS = (*LOADED, "workload")


@dataclass(frozen=True)
class Store:
    """The folder of a sweep."""

    folder: Path

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def read(self, key: str) -> Entry | None:
        """What is known about a cell; a broken or foreign file counts as nothing."""
        try:
            found = read_records(self.path(key))
        except RecordError:
            return None
        entries: list[Entry] = [*found.records, *found.failures]
        return entries[0] if [entry.key for entry in entries] == [key] else None

    def write(self, entry: Entry) -> None:
        records, failures = ([entry], []) if isinstance(entry, RunRecord) else ([], [entry])
        write_records(self.path(entry.key), records, failures)

    def drop_leftovers(self) -> None:
        """Half-written files of a sweep that was killed."""
        for path in self.folder.glob(".*.json.*"):
            path.unlink(missing_ok=True)


@dataclass
class Listener:
    """Who wants to hear what is going on."""

    on_start: Callable[[Cell], None] = lambda cell: None
    on_done: Callable[[Entry], None] = lambda entry: None
    on_stage: Callable[[str, int], None] = lambda stage, rounds: None
    on_note: Callable[[str], None] = lambda note: None


@dataclass
class Sweep:
    """`retry`: measure again what failed before. `yes`: no second thoughts about size."""

    cells: list[Cell]
    store: Store
    retry: bool = False
    yes: bool = False
    done: dict[str, Entry] = field(default_factory=dict)
    stale: dict[str, list[str]] = field(default_factory=dict)  # key → what its record was made with, and is no more

    def __post_init__(self) -> None:
        for cell in self.cells:
            key = cell_key(cell)
            found = self.store.read(key)
            if found is None:
                continue
            differences = changed(found.sources, sources_of(cell))
            if differences:
                self.stale[key] = differences
            elif not (self.retry and isinstance(found, Failure)):
                self.done[key] = found

    @property
    def open(self) -> list[Cell]:
        return [cell for cell in self.cells if cell_key(cell) not in self.done]

    def fresh(self, cell: Cell) -> Entry | None:
        """What is written about a cell by now, if it holds."""
        found = self.store.read(cell_key(cell))
        return None if found is None or changed(found.sources, sources_of(cell)) else found

    def results(self) -> RecordFile:
        """Everything that is written, in the order of the cells."""
        found = [self.store.read(cell_key(cell)) for cell in self.cells]
        return RecordFile(
            records=tuple(entry for entry in found if isinstance(entry, RunRecord)),
            failures=tuple(entry for entry in found if isinstance(entry, Failure)),
        )


def cells_of(recipes: Sequence[Recipe]) -> list[Cell]:
    """Each cell once; those that share a loaded model behind each other, and of these those that share its inputs."""
    cells = list({cell_key(cell): cell for recipe in recipes for cell in recipe.cells()}.values())
    for shared in (INPUTS, LOADED):
        cells = [cell for group in _groups(cells, shared) for cell in group]
    return cells


def run(sweep: Sweep, listener: Listener, *, devices: Sequence[str] = (), jobs: int = 1) -> None:
    sweep.store.drop_leftovers()
    jobs = max(jobs, len(devices))
    if jobs <= 1 and not devices:
        measure_cells(sweep.open, sweep.store, listener, yes=sweep.yes)
    else:
        _run_in_processes(sweep, listener, [devices[i % len(devices)] if devices else "" for i in range(jobs)])


def measure_cells(cells: Sequence[Cell], store: Store, listener: Listener, *, yes: bool = False) -> None:
    """In this process. Whatever goes wrong with a cell is that cell's; the rest goes on."""
    from tokprof import profiler, resolve

    def finished(entry: Entry) -> None:
        store.write(entry)
        pending.popleft()
        listener.on_done(entry)
        if pending:
            listener.on_start(pending[0].cell)

    pending: deque[resolve.Ready] = deque()
    for cell in cells:
        try:
            resolve.refuse_the_hopeless(_alone(cell), yes=yes)
            pending.append(resolve.ready(cell))
        except TokprofError as error:
            failure = profiler.failure_of(cell, error)
            store.write(failure)
            listener.on_done(failure)
    told = profiler.Listener(
        on_record=finished, on_failure=finished, on_stage=listener.on_stage, on_note=listener.on_note
    )
    while pending:
        listener.on_start(pending[0].cell)
        try:
            profiler.measure_all(list(pending), told)
        except Exception as error:  # a defect in one method or model is no reason to lose the others
            finished(_crashed(pending[0].cell, f"{type(error).__name__}: {error}", pending[0].sources))


def _alone(cell: Cell) -> Recipe:
    return Recipe(
        models=(cell.model,),
        methods=(cell.method,),
        workloads=(cell.workload,),
        setting=cell.setting,
        measurement=cell.measurement,
    )


def _crashed(cell: Cell, reason: str, sources: Mapping[str, str] | None = None) -> Failure:
    from tokprof.profiler import failure_of

    return failure_of(cell, TokprofError(reason, "`tokprof sweep … --retry` measures it again"), sources)


# one process per device


def _run_in_processes(sweep: Sweep, listener: Listener, devices: Sequence[str]) -> None:
    """Each worker takes the next group of cells that share a loaded model and inputs."""
    waiting, lock = deque(_groups(sweep.open, INPUTS)), threading.Lock()

    def work(device: str) -> None:
        while True:
            with lock:
                if not waiting:
                    return
                group = waiting.popleft()
                listener.on_start(group[0])
            rest = _measure_elsewhere(group, sweep, device)
            with lock:
                for cell in group:
                    found = sweep.fresh(cell)
                    if found is not None:
                        listener.on_done(found)
                if rest:
                    waiting.appendleft(rest)

    threads = [threading.Thread(target=work, args=(device,), daemon=True) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _groups(cells: Sequence[Cell], shared: Sequence[str]) -> Iterator[list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.model_dump_json(include=set(shared)), []).append(cell)
    yield from groups.values()


def _measure_elsewhere(cells: list[Cell], sweep: Sweep, device: str) -> list[Cell]:
    """In a process of its own; the cells that are still to do after it died on one of them."""
    texts = [cell.model_dump_json() for cell in cells]
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(_worker, texts, str(sweep.store.folder), device, sweep.yes).result()
        return []
    except BrokenProcessPool:
        left = [cell for cell in cells if sweep.fresh(cell) is None]
        if left:
            sweep.store.write(_crashed(left[0], "the process died: out of memory, or a crash in a library"))
        return left[1:]


def _worker(texts: list[str], folder: str, device: str, yes: bool) -> None:
    import os

    if device:
        os.environ["CUDA_VISIBLE_DEVICES"] = device  # so that "cuda" is this one, and the cells keep their hash
    cells = [Cell.model_validate_json(text) for text in texts]
    measure_cells(cells, Store(Path(folder)), Listener(), yes=yes)
