"""From a recipe to records: check, load, prove parity, measure side by side, write down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tokprof.errors import TokprofError
from tokprof.recipe import Cell, Recipe
from tokprof.record import Failure, RunRecord, cell_key
from tokprof.resolve import Ready, resolve
from tokprof.sources import sources_of


@dataclass
class Listener:
    """Who wants to hear what is going on; all optional."""

    on_record: Callable[[RunRecord], None] = lambda record: None
    on_failure: Callable[[Failure], None] | None = None  # without it, the first failure ends the run
    on_stage: Callable[[str, int], None] = lambda stage, rounds: None
    on_note: Callable[[str], None] = lambda note: None


def profile(recipe: Recipe, listener: Listener | None = None) -> list[RunRecord]:
    """Measure every cell. Mistakes are found before any weight is loaded; each record is handed over when done."""
    listener = listener or Listener()
    return measure_all(resolve(recipe), listener)


def measure_all(cells: list[Ready], listener: Listener) -> list[RunRecord]:
    from tokprof.measure.apart import measure_alone
    from tokprof.session import Session

    records: list[RunRecord] = []
    session: Session | None = None
    for ready in cells:
        try:
            if ready.cell.measurement.isolate:
                listener.on_stage(f"{ready.policy.name}: in a process of its own", 0)
                record = measure_alone(ready.cell)
            else:
                if session is None or not session.serves(ready):
                    session = None  # two models at once may not fit
                    session = Session(ready, listener)
                record = session.measure(ready)
        except TokprofError as error:
            if listener.on_failure is None:
                raise
            listener.on_failure(failure_of(ready.cell, error, ready.sources))
            continue
        records.append(record)
        listener.on_record(record)
    return records


def failure_of(cell: Cell, error: TokprofError, sources: Mapping[str, str] | None = None) -> Failure:
    """`sources`: as they were when the cell was prepared."""
    return Failure(
        key=cell_key(cell),
        cell=cell,
        reason=error.message,
        hint=error.hint,
        sources={**sources_of(cell), **(sources or {})},
    )
