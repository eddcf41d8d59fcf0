"""What a schema cannot see in a recipe: methods that cannot be built, doubles, published tables that are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tokprof import policies, published
from tokprof.errors import TokprofError, UnknownNameError
from tokprof.recipe import Recipe, Row

Note = Callable[[tuple[str | int, ...], str], None]  # where it stands, and what is wrong


def note_mistakes(recipe: Recipe, note: Note) -> None:
    _check_methods(recipe, note)
    _check_duplicates(recipe, note)
    _check_published(recipe, note)


def _check_methods(recipe: Recipe, note: Note) -> None:
    for index, method in enumerate(recipe.methods):
        try:
            policies.build(method.name, **method.parameters)
        except TokprofError as error:
            note(("methods", index), f"{error.message} ({error.hint})" if error.hint else error.message)
        except TypeError as error:
            note(("methods", index), f"{method.name}: {error}")


def _check_duplicates(recipe: Recipe, note: Note) -> None:
    for name, values in (("models", recipe.models), ("methods", recipe.methods), ("workloads", recipe.workloads)):
        for index, first in _repeated(values):
            note((name, index), f"{name}.{index} is the same as {name}.{first}")


def _check_published(recipe: Recipe, note: Note) -> None:
    """The table is one that we have, and every row of the recipe one of its rows."""
    table = recipe.published
    if table is None:
        return
    try:
        cells = published.table_cells(table.paper, table.table)
    except UnknownNameError as error:
        key = "table" if table.paper in published.PAPERS else "paper"
        note(("published", key), f"{error.message} ({error.hint})")
        return
    models = dict.fromkeys(cell.model for cell in cells)
    if table.model and table.model not in models:
        said = f"table {table.table} of {table.paper} has no part for {table.model}; it has {', '.join(models)}"
        note(("published", "model"), said)
    wanted = (table.model,) if table.model else recipe.models
    own = [cell for cell in cells if cell.model in wanted] or cells
    for index, row in enumerate(table.rows):
        if row is not None and not any(_stands_for(row, cell) for cell in own):
            known = dict.fromkeys(f"{cell.method} {cell.variant}".strip() for cell in own)
            said = f"table {table.table} of {table.paper} has no such row; it has {', '.join(known)}"
            note(("methods", index, "row"), said)


def _stands_for(row: Row, cell: published.Cell) -> bool:
    return (row.method, row.variant) == (cell.method, cell.variant) and row.tokens in (None, cell.tokens)


def _repeated(values: tuple[Any, ...]) -> Iterator[tuple[int, int]]:
    for index, value in enumerate(values):
        first = values.index(value)
        if first < index:
            yield index, first
