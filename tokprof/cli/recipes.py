"""`tokprof recipes`: what is bundled."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    app.command()(recipes)


def recipes() -> None:
    """List the bundled recipes: one per efficiency table of the papers, and some of our own."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from tokprof.recipe_file import bundled, parse_recipe

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head in ("recipe", "what it re-runs", "model", "cells"):
        table.add_column(head, justify="right" if head == "cells" else "left")
    for name, path in bundled().items():
        recipe = parse_recipe(path)
        cells = len(list(recipe.cells())) * max(len(recipe.match), 1)
        table.add_row(name, recipe.title, ", ".join(recipe.models), str(cells))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "tokprof sweep NAME runs one; tokprof reproduce NAME sets it beside the paper; --model demo on any laptop"
    )
