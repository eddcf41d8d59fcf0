"""The bundled recipes: each validates, plans at full size and at demo size, and stands for rows that were printed."""

from __future__ import annotations

import re

import pytest

from tokprof import published, resolve
from tokprof.recipe import Measurement, Recipe
from tokprof.recipe_file import bundled, parse_recipe, read_recipe
from tokprof.record import Failure, RunRecord, cell_key
from tokprof.report.reproduce import reproduce
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


def test_windows_without_an_exit_have_none() -> None:
    """Figure 7's late injection alone: nothing until layer L, then every visual token to the last layer, no filter."""
    recipe = read_recipe(bundled()["hidivdrop-figure7"])
    assert recipe.published is not None
    alone = 0
    for cell, row in zip(recipe.cells(), recipe.published.rows, strict=True):
        assert row is not None
        entry, leave = re.fullmatch(r"inject=(\d+);exit=(\w+)", row.variant).groups()  # type: ignore[union-attr]
        before, until = int(entry) - 1, 32 if leave == "none" else int(leave)
        ready = resolve.ready(cell)
        layers = ready.policy.schedule(ready.scene).layers
        assert layers == (0,) * before + (576,) * (until - before) + (0,) * (32 - until)
        assert not ready.policy.costs(ready.scene)
        alone += leave == "none"
    assert alone == 7


def test_long_videos_reach_a_hundred_thousand_tokens() -> None:
    longest = list(read_recipe(bundled()["video-long"]).cells())[-1]
    assert estimate(longest).visual == 510 * 196 + 1


FEWEST = Measurement(rounds=2, warmup_rounds=1, memory=False, activity=False)  # type: ignore[call-arg]


def at_demo_size(name: str) -> Recipe:
    """What `--model demo` makes of a recipe, with as few rounds as there can be: many recipes share cells then."""
    return read_recipe(bundled()[name], demo=True).model_copy(update={"measurement": FEWEST})


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Every cell of every recipe, each once, on one loaded model."""
    store = Store(tmp_path_factory.mktemp("recipes"))
    run(Sweep(cells_of([at_demo_size(name) for name in NAMES]), store), Listener())
    return store


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if parse_recipe(bundled()[name]).published])
def test_every_table_is_set_beside_the_paper_at_demo_size(name: str, measured: Store) -> None:
    """Another model than the paper's: gains beside gains, no figure over a figure, and said so."""
    recipe = at_demo_size(name)
    entries = [measured.read(cell_key(cell)) for cell in recipe.cells()]
    found = reproduce(recipe, [entry for entry in entries if isinstance(entry, RunRecord)])
    assert all(entry.ours and entry.ratio is None for entry in found.compared if entry.measure.title != "memory")
    if found.compared:
        assert found.verdicts and any("another model than the paper's" in note for note in found.notes)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_runs_at_demo_size(name: str, measured: Store) -> None:
    """Each cell is measured, or was refused before anything ran, for the reason that its plan gives."""
    for cell in at_demo_size(name).cells():
        found = measured.read(cell_key(cell))
        assert found is not None and found.cell == cell
        if isinstance(found, Failure):
            assert found.reason == estimate(cell).reason
            continue
        for arm in (found.baseline, found.policy):
            assert arm.samples.rounds == 2 and all(0 < ms < 60_000 for ms in arm.samples.total_ms())
            assert len(arm.tokens.per_layer) == len(arm.tokens.planned) == found.model.depth
            assert all(sum(parts.values()) > 0 for parts in arm.flops.values())
        assert found.baseline.method == "dense" and set(found.baseline.tokens.per_layer) == {found.inputs.visual}
        assert found.policy.tokens.layer_mean <= found.inputs.visual
        assert found.parity.greedy_equal and found.policy.fidelity is not None
