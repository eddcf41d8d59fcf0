"""`tokprof sweep`: recipes, cell by cell, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command()(sweep)


def sweep(
    recipe: Annotated[list[str], typer.Argument(help="Recipes: files, or names from `tokprof recipes`.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default results/RECIPE.")] = None,
    model: Annotated[str | None, typer.Option(help="Another model; `demo` shrinks the recipe to any laptop.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print cells, memory and time, and measure nothing.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Cells at the same time, each in its own process.")] = 1,
    devices: Annotated[str | None, typer.Option(help="GPUs to spread the cells over, as 0,1.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Measure again what failed before.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go on although it may take very long or much memory.")] = False,
    format_: Annotated[str, typer.Option("--format", help="table, markdown, csv, latex or json.")] = "table",
) -> None:
    """Run whole recipes. Kill it at any moment and run it again: it goes on where it was.

    tokprof sweep todre-table3 --model demo
    """
    from tokprof.cli.sweeping import check_format, chosen_recipes, print_plan, print_results, run_sweep
    from tokprof.sweep import Store, Sweep, cells_of

    check_format(format_)
    recipes = chosen_recipes(recipe, model)
    folder = out or Path("results") / Path(recipe[0]).stem
    planned = Sweep(cells_of(recipes), Store(folder), retry=retry, yes=yes)
    if dry_run:
        print_plan(planned)
        return
    run_sweep(planned, jobs=jobs, devices=[part.strip() for part in (devices or "").split(",") if part.strip()])
    print_results(planned, format_)
    if not planned.results().records:
        raise typer.Exit(2)
