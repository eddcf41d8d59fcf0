"""The pages that `make docs` makes from recipes that were run at demo size."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.records import make_record
from tokprof.recipe_file import bundled, read_recipe
from tokprof.record import Failure, cell_key, write_records

SCRIPTS = str(Path(__file__).parents[2] / "scripts")


def test_a_page_per_recipe_and_one_that_says_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [SCRIPTS, *sys.path])
    from recipe_pages import recipe_pages

    assert recipe_pages(tmp_path) == {}
    *cells, last = read_recipe(bundled()["todre-table3"], demo=True).cells()
    records = [
        make_record(cell.method.name, model="demo").model_copy(update={"cell": cell, "key": cell_key(cell)})
        for cell in cells
    ]
    failure = Failure(key=cell_key(last), cell=last, reason="out of memory")
    write_records(tmp_path / "todre-table3.json", records, [failure])
    pages = recipe_pages(tmp_path)
    assert list(pages) == ["reports/recipes/todre-table3.html", "reports/recipes/README.md"]
    page, contents = (make() for make in pages.values())
    assert "the recipe at demo size" in page and "out of memory" in page
    assert "**not** the papers' models" in contents and "Measured on 2026" in contents
    assert "out of memory" in contents and "todre, table 3: llava-next-7b" in contents
    assert "another model than the paper's" in contents
