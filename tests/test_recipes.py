"""The bundled recipes: each validates, plans at full size and at demo size, and stands for rows that were printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokprof import published, resolve
from tokprof.recipe import Recipe
from tokprof.recipe_file import bundled, read_recipe
from tokprof.sweep import Listener, Store, Sweep, cells_of, run
from tokprof.sweep_plan import estimate

NAMES = sorted(bundled())
PAPERS = (
    "todre-table3", "todre-table4", "todre-table5", "todre-table6", "visiondrop-table4", "visiondrop-table4-next",
    "v2drop-table4", "v2drop-table4-video", "v2drop-table5", "v2drop-table6", "v2drop-figure8",
    "hidivdrop-table2", "hidivdrop-table2-mobilellama", "hidivdrop-figure1e", "hidivdrop-figure7",
)  # fmt: skip
OWN = ("quickstart", "ci", "h200", "budgets", "video-long", "batch", "output-length")


def test_the_recipes_that_there_should_be() -> None:
    assert set(NAMES) >= {*PAPERS, *OWN}


@pytest.mark.parametrize("name", NAMES)
def test_headed_by_the_command_that_runs_it(name: str) -> None:
    first = bundled()[name].read_text().splitlines()[0]
    assert first.startswith("# tokprof ") and name in first


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_plans_at_full_size(name: str) -> None:
    recipe = read_recipe(bundled()[name])
    for cell in recipe.cells():
        found = estimate(cell)
        assert not found.reason, (cell.method, found.reason)
        assert found.flops > 0 and found.memory_bytes > 0 and found.seconds > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_plans_at_demo_size(name: str) -> None:
    recipe = read_recipe(bundled()[name], demo=True)
    assert recipe.models == ("demo",)
    for cell in recipe.cells():
        resolve.ready(cell)
    if recipe.published and recipe.published.rows:
        assert len(recipe.published.rows) == len(recipe.methods)


@pytest.mark.parametrize("name", NAMES)
def test_rows_stand_for_printed_ones(name: str) -> None:
    recipe = read_recipe(bundled()[name])
    if recipe.published is None:
        return
    cells = published.cells(recipe.published.paper)
    printed = {(cell.table, cell.model, cell.method, cell.variant, cell.tokens) for cell in cells}
    for row in recipe.published.rows:
        assert row is not None
        assert any(
            (table, model, method, variant) == (recipe.published.table, recipe.models[0], row.method, row.variant)
            and row.tokens in (None, tokens)
            for table, model, method, variant, tokens in printed
        ), row


def layer_mean(recipe: Recipe, place: int) -> float:
    cell = list(recipe.cells())[place]
    ready = resolve.ready(cell)
    return ready.policy.schedule(ready.scene).layer_mean


def test_budgets_are_equal_where_they_say_so() -> None:
    recipe = read_recipe(bundled()["budgets"])
    means = [layer_mean(recipe, place) for place in range(10)]
    assert max(means) - min(means) < 0.01 * max(means)


def test_long_videos_reach_a_hundred_thousand_tokens() -> None:
    longest = list(read_recipe(bundled()["video-long"]).cells())[-1]
    assert estimate(longest).visual == 510 * 196 + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_runs_at_demo_size(name: str, tmp_path: Path) -> None:
    sweep = Sweep(cells_of([read_recipe(bundled()[name], demo=True)]), Store(tmp_path))
    run(sweep, Listener())
    results = sweep.results()
    assert not results.failures, results.failures
    assert len(results.records) == len(sweep.cells)
