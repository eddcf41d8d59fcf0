"""The commands around sweeps, as far as they go without measuring anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.records import make_record
from tokprof import __version__
from tokprof.cli import build_app
from tokprof.cli.sweeping import chosen_recipes
from tokprof.errors import TokprofError
from tokprof.recipe_file import bundled
from tokprof.record import cell_key
from tokprof.sources import sources_of
from tokprof.sweep import Store


def call(*words: str) -> str:
    found = CliRunner().invoke(build_app(), list(words), env={"COLUMNS": "160"})
    if isinstance(found.exception, TokprofError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def test_recipes_are_listed() -> None:
    text = call("recipes")
    assert all(name in text for name in bundled())


def test_a_dry_run_measures_nothing_and_writes_nothing(tmp_path: Path) -> None:
    text = call("sweep", "todre-table3", "--dry-run", "--out", str(tmp_path / "out"))
    assert text.count("llava-next-7b") == 5 and "GiB" in text and "5 of 5 cells to measure" in text
    assert not (tmp_path / "out").exists()


def test_a_cell_that_makes_no_sense_is_said_in_the_dry_run(tmp_path: Path) -> None:
    recipe = tmp_path / "deep.yaml"
    recipe.write_text("model: demo\nmethods:\n  - {method: todre, exit_layer: 30}\n  - fastv\n")
    text = call("sweep", str(recipe), "--dry-run")
    assert "exit_layer=30" in text and "2 of 2 cells" in text


def test_what_no_longer_holds_is_said_in_the_dry_run_and_by_a_comparison_without_a_run(tmp_path: Path) -> None:
    (recipe,) = chosen_recipes(["todre-table3"], "demo")
    for cell, version in zip(recipe.cells(), (__version__, "0.0.1"), strict=False):
        sources = {**sources_of(cell), "tokprof": version}
        update = {"cell": cell, "key": cell_key(cell), "sources": sources}
        Store(tmp_path).write(make_record(cell.method.name).model_copy(update=update))
    words = ("todre-table3", "--model", "demo", "--out", str(tmp_path))
    planned = call("sweep", *words, "--dry-run")
    assert planned.count("done") == 1 and planned.count("again: from another tokprof") == 1
    assert "4 of 5 cells to measure" in planned
    assert "1 of 5 results come from another tokprof" in call("reproduce", *words, "--no-run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sweep", "no-such-recipe"), "no recipe"),
        (("sweep", "quickstart", "--format", "docx"), "docx"),
        (("sweep", "quickstart", "--devices", "one"), "devices"),
        (("sweep", "quickstart", "--out", "/proc/nowhere"), "cannot write"),
        (("reproduce", "quickstart"), "names no published table"),
        (("reproduce", "todre-tabel3"), "no recipe"),
        (("reproduce", "todre-table3", "--model", "lava", "--no-run"), "no model 'lava'"),
        (("sweep", "todre-table3", "--model", "lava"), "no model 'lava'"),
    ],
)
def test_mistakes_are_found_before_anything_is_measured(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    words = words if "--out" in words else (*words, "--out", str(tmp_path / "out"))
    with pytest.raises(TokprofError) as caught:
        call(*words)
    assert said in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_reproduction_without_records_shows_the_papers_side(tmp_path: Path) -> None:
    text = call("reproduce", "visiondrop-table4", "--no-run", "--out", str(tmp_path))
    assert "237 ms" in text and "2.03×" in text
