"""What `tokprof sweep` and `tokprof reproduce` share: choosing recipes, progress, the plan on paper."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tokprof.errors import InputError

if TYPE_CHECKING:
    from tokprof.recipe import Cell, Recipe
    from tokprof.record import Failure, RunRecord
    from tokprof.sweep import Sweep


def chosen_recipes(names: Sequence[str], model: str | None) -> list[Recipe]:
    """Read and checked, at demo size or with another model where one is given."""
    from tokprof.demo_size import DEMO
    from tokprof.models import catalog
    from tokprof.recipe_file import locate, read_recipe

    if model:
        catalog.find(model)
    recipes = [read_recipe(locate(name), demo=model == DEMO) for name in names]
    if model and model != DEMO:
        recipes = [recipe.on(model) for recipe in recipes]
    return recipes


def cell_label(cell: Cell) -> str:
    parameters = ", ".join(f"{name}={value}" for name, value in cell.method.parameters.items())
    batch = f", batch {cell.workload.batch}" if cell.workload.batch > 1 else ""
    return f"{cell.model} {cell.method.name} {parameters}{batch}".replace("  ", " ").strip()


def run_sweep(planned: Sweep, *, jobs: int, devices: Sequence[str]) -> None:
    """Measure what is open; progress on stderr."""
    from tokprof.cli.running import check_output
    from tokprof.sweep import Listener, run

    check_output(str(planned.store.folder / "cell.json"))
    if any(not device.isdigit() for device in devices):
        raise InputError(f"--devices {','.join(devices)}", "numbers of GPUs with commas, such as 0,1")
    todo = len(planned.open)
    if planned.stale:
        print(f"note: {stale_words(planned)}: measured anew", file=sys.stderr)
    if not todo:
        print(f"all {len(planned.cells)} cells are measured already ({planned.store.folder})", file=sys.stderr)
        return
    with SweepProgress(len(planned.cells), len(planned.cells) - todo) as progress:
        listener = Listener(progress.start, progress.done, progress.stage, progress.note)
        run(planned, listener, devices=devices, jobs=jobs)


def stale_words(planned: Sweep) -> str:
    """3 of 5 results come from another tokprof, other pictures"""
    differences = dict.fromkeys(words for found in planned.stale.values() for words in found)
    return f"{len(planned.stale)} of {len(planned.cells)} results come from {', '.join(differences)}"


class SweepProgress:
    """A bar on a terminal; one line per finished cell elsewhere."""

    def __init__(self, total: int, already: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._total, self._count, self._already = total, already, already
        self._task = self._progress.add_task("starting", total=total, completed=already)
        self._began, self._cell = time.monotonic(), ""

    def __enter__(self) -> SweepProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def start(self, cell: Cell) -> None:
        self._cell = cell_label(cell)
        self._progress.update(self._task, description=self._cell)

    def stage(self, stage: str, rounds: int) -> None:
        shown = f"{stage}, round {rounds}" if rounds else stage
        self._progress.update(self._task, description=f"{self._cell}: {shown}")

    def note(self, note: str) -> None:
        self._console.print(f"note: {note}", markup=False, soft_wrap=True)

    def done(self, entry: RunRecord | Failure) -> None:
        from tokprof import units
        from tokprof.record import RunRecord
        from tokprof.report import derived

        self._count += 1
        self._progress.update(self._task, completed=self._count)
        if isinstance(entry, RunRecord):
            found = derived.speedup(entry)
            result = f"speed-up {derived.interval_text(found)}" if found else "measured"
        else:
            result = f"not measured: {entry.reason}"
        spent = time.monotonic() - self._began
        left = spent / (self._count - self._already) * (self._total - self._count)
        remaining = f", about {units.seconds(left)} left" if self._count < self._total else ""
        line = f"{self._count}/{self._total} {cell_label(entry.cell)}: {result}{remaining}"
        self._console.print(line, markup=False, soft_wrap=True)


def check_format(shape: str) -> None:
    """Before anything is measured."""
    from tokprof.report.export import FORMATS

    if shape not in ("table", *FORMATS):
        raise InputError(f"--format {shape!r}", f"one of table, {', '.join(FORMATS)}")


def print_results(planned: Sweep, shape: str) -> None:
    """The table of everything measured, and what could not be."""
    from tokprof.report.export import export

    results = planned.results()
    if shape == "table":
        from rich.console import Console

        from tokprof.report.table import render

        console = Console(highlight=False)
        if results.records:
            console.print(render(results.records, width=console.width))
        for failure in results.failures:
            hint = f" ({failure.hint})" if failure.hint else ""
            console.print(
                f"not measured: {cell_label(failure.cell)}: {failure.reason}{hint}", markup=False, style="yellow"
            )
    else:
        sys.stdout.write(export(results.records, shape, results.failures))


def print_plan(planned: Sweep) -> None:
    """Cells, what each would need and how long it would take, without touching a model."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from tokprof import units
    from tokprof.record import cell_key
    from tokprof.sweep_plan import DEVICE_WORDS, estimate

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in ("cell", "visual", "layer mean", "FLOPs", "memory", "time", ""):
        table.add_column(head, justify="left" if head in ("cell", "") else "right")
    total, most, todo = 0.0, 0, planned.open
    for cell in planned.cells:
        found = estimate(cell)
        stale = planned.stale.get(cell_key(cell))
        state = found.reason or (f"again: from {', '.join(stale)}" if stale else "" if cell in todo else "done")
        if found.reason:
            table.add_row(cell_label(cell), *[units.MISSING] * 5, state)
            continue
        table.add_row(
            cell_label(cell),
            units.count(found.visual),
            units.count(round(found.layer_mean, 1)),
            units.operations(found.flops),
            units.bytes_(found.memory_bytes),
            units.seconds(found.seconds),
            state,
        )
        total += found.seconds if cell in todo else 0.0
        most = max(most, found.memory_bytes)
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{len(todo)} of {len(planned.cells)} cells to measure, at most {units.bytes_(most)} of memory, "
        f"about {units.seconds(total)} ({DEVICE_WORDS})"
    )
