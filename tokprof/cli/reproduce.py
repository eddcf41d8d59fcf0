"""`tokprof reproduce`: a paper's table, run again and set beside the original."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command()(reproduce)


def reproduce(
    recipe: Annotated[str, typer.Argument(help="A recipe that names a published table, such as todre-table3.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default results/RECIPE.")] = None,
    model: Annotated[str | None, typer.Option(help="Another model; `demo` runs it on any laptop.")] = None,
    devices: Annotated[str | None, typer.Option(help="GPUs to spread the cells over, as 0,1.")] = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="Only compare what is measured already.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go on although it may take very long or much memory.")] = False,
) -> None:
    """Run a recipe and print paper | ours | ratio, cell by cell, with a verdict.

    tokprof reproduce todre-table3
    """
    from rich.console import Console

    from tokprof.cli.sweeping import cell_label, chosen_recipes, run_sweep, stale_words
    from tokprof.report import table
    from tokprof.report.reproduce import reproduce as compare
    from tokprof.report.reproduce_table import render
    from tokprof.sweep import Store, Sweep, cells_of

    (chosen,) = chosen_recipes([recipe], model)
    compare(chosen, [])  # a recipe without a published table is refused before anything is measured
    planned = Sweep(cells_of([chosen]), Store(out or Path("results") / Path(recipe).stem), yes=yes)
    if no_run and planned.stale:
        print(f"note: {stale_words(planned)}; without --no-run they are measured anew", file=sys.stderr)
    if not no_run:
        run_sweep(planned, jobs=1, devices=[part for part in (devices or "").split(",") if part])
    results = planned.results()
    console = Console(highlight=False)
    found = compare(chosen, results.records)
    console.print(render(found))
    if not found.compared and results.records:
        console.print()
        console.print(table.render(results.records, width=console.width))
    for failure in results.failures:
        console.print(f"not measured: {cell_label(failure.cell)}: {failure.reason}", markup=False, style="yellow")
