"""The pages of reports/recipes, from the records there: recipes run at the demo model's size on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path

from rich.console import Console

from tokprof.recipe_file import bundled, parse_recipe, read_recipe
from tokprof.record import RecordFile, read_records
from tokprof.report.export import export
from tokprof.report.html import page
from tokprof.report.reproduce import reproduce
from tokprof.report.reproduce_table import render
from tokprof.report.table import about_machine

FOLDER = Path(__file__).parents[1] / "reports" / "recipes"
WIDTH = 110
HEAD = """# Recipes at demo size

Every recipe here was run on the bundled demo model, a few million parameters on a CPU: layers are carried over in
proportion, batches and answers are cut short. It shows that the recipes run and what their pages look like; it is
**not** the papers' models or machines, so nothing here confirms or refutes their figures. `make reports` measures all
of it anew; the pages are made from the records by `make docs`.
"""


def recipe_pages(folder: Path = FOLDER) -> dict[str, Callable[[], str]]:
    """One page per result file, and one that lists them; nothing where nothing was measured."""
    files = sorted(folder.glob("*.json"))
    shown = Path("reports") / "recipes"
    pages: dict[str, Callable[[], str]] = {str(shown / f"{file.stem}.html"): partial(_page, file) for file in files}
    return {**pages, str(shown / "README.md"): partial(_contents, files)} if files else {}


def _page(file: Path) -> str:
    found = read_records(file)
    return page(found.records, found.failures, title=f"{_title(file)}: the recipe at demo size")


def _title(file: Path) -> str:
    return parse_recipe(bundled()[file.stem]).title


def _contents(files: list[Path]) -> str:
    parts = [HEAD]
    for file in files:
        found = read_records(file)
        table = export(found.records, "markdown").strip()
        refused = "".join(f"\n- not measured: {one.cell.method.name}: {one.reason}" for one in found.failures)
        parts.append(
            f"## {_title(file)}\n\n{_where(file, found)}\n\n{table}\n{refused}\n{_beside_the_paper(file, found)}"
        )
    return "\n".join(parts)


def _where(file: Path, found: RecordFile) -> str:
    command = f"`tokprof sweep {file.stem} --model demo`; [page]({file.stem}.html), [records]({file.name})."
    if not found.records:
        return command
    return f"Measured on {found.records[0].created[:10]}: {about_machine(found.records[0])}. {command}"


def _beside_the_paper(file: Path, found: RecordFile) -> str:
    recipe = read_recipe(bundled()[file.stem], demo=True)
    if recipe.published is None:
        return ""
    console = Console(file=StringIO(), width=WIDTH)
    console.print(render(reproduce(recipe, found.records)))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n```\n" + "\n".join(line.rstrip() for line in lines).strip() + "\n```\n"
