from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from tests.records import make_record
from tests.report.golden import same_as_golden
from tokprof import published
from tokprof.errors import InputError, UnknownNameError
from tokprof.recipe import Published, Recipe
from tokprof.recipe_file import bundled, read_recipe
from tokprof.record import RunRecord
from tokprof.report.reproduce import Compared, Reproduction, reproduce
from tokprof.report.reproduce_table import render


def recipe(name: str) -> Recipe:
    return read_recipe(bundled()[name])


def records_for(found: Recipe, times_ms: Sequence[float], *, model: str = "", noise: float = 0.0) -> list[RunRecord]:
    made = []
    for cell, ms in zip(found.cells(), times_ms, strict=True):
        record = make_record(cell.method.name, model=model or cell.model, policy_ms=ms, noise=noise)
        made.append(record.model_copy(update={"cell": cell}))
    return made


def one(found: Reproduction, label: str, title: str) -> Compared:
    return next(entry for entry in found.compared if entry.label == label and entry.measure.title.startswith(title))


def test_gains_are_taken_against_each_sides_own_unpruned_model() -> None:
    todre = recipe("todre-table3")
    found = reproduce(todre, records_for(todre, [70, 60, 56, 56, 50]))
    entry = one(found, "todre", "throughput")
    assert entry.paper_gain == pytest.approx(2.8 / 1.5)
    assert entry.our_gain == pytest.approx(2.0)
    assert entry.ratio == pytest.approx(20 / 2.8)
    assert one(found, "todre", "FLOPs").paper_gain == pytest.approx(31.4 / 6.0)
    assert "throughput, POPE: todre 2.00× here, 1.87× there; order kept" in found.verdicts


def test_another_order_is_named() -> None:
    todre = recipe("todre-table3")
    found = reproduce(todre, records_for(todre, [50, 60, 56, 56, 70]))
    assert any("order differs in 7 of 9 pairs, first fastv and sparsevlm" in verdict for verdict in found.verdicts)


def test_what_our_noise_leaves_open_has_no_order() -> None:
    todre = recipe("todre-table3")
    times = [50.0, 50.5, 50.2, 50.4, 50.1]  # fastv ahead by 1 %, which 5 % of noise cannot tell
    noisy = reproduce(todre, records_for(todre, times, noise=0.05))
    assert not any("throughput" in verdict and "order" in verdict for verdict in noisy.verdicts)
    sharp = reproduce(todre, records_for(todre, times))
    assert any("throughput" in verdict and "order differs" in verdict for verdict in sharp.verdicts)


def test_budgets_of_different_bases_are_said_to_be() -> None:
    todre = recipe("todre-table3")
    notes = reproduce(todre, records_for(todre, [70, 60, 56, 56, 50])).notes
    assert any("different bases" in note and "pre_llm" in note and "as_labelled" in note for note in notes)
    assert any("RTX 3090" in note for note in notes) and any("H200 (made up" in note for note in notes)
    assert any("-78.0" in note for note in notes)  # the source's own misprint is told


def test_totals_of_a_benchmark_are_not_divided_by_a_request() -> None:
    v2drop = recipe("v2drop-table4")
    found = reproduce(v2drop, records_for(v2drop, [70, 75, 73, 72, 69]))
    entry = one(found, "v2drop", "LLM time")
    assert entry.ratio is None and entry.paper_gain == pytest.approx(400 / 273.9)
    assert {entry.cell.model for entry in found.compared} == {"llava-1.5-7b"}


def test_on_another_model_only_gains_are_compared() -> None:
    todre = recipe("todre-table3")
    found = reproduce(todre, records_for(todre, [70, 60, 56, 56, 50], model="demo"))
    assert all(entry.ratio is None for entry in found.compared)
    assert any("another model" in note for note in found.notes)


def test_a_row_without_a_record_has_dashes_not_guesses() -> None:
    todre = recipe("todre-table3")
    found = reproduce(todre, records_for(todre, [70, 60, 56, 56, 50])[:2])
    entry = one(found, "todre", "throughput")
    assert entry.ours is None and entry.our_gain is None and entry.paper_gain is not None


def test_rows_that_differ_in_budget_or_variant_are_told_apart() -> None:
    stages = recipe("todre-table4")
    found = reproduce(stages, records_for(stages, [95, 58, 56, 40, 38]))
    gains = {entry.label: entry.paper_gain for entry in found.compared}
    assert gains["todre stage1+stage2 (288)"] == pytest.approx(4624 / 1771)
    assert gains["todre stage1+stage2 (720)"] == pytest.approx(4624 / 2589)
    assert gains["todre stage2_only"] == pytest.approx(4624 / 4366)


def test_a_plot_without_numbers_is_said_to_be_one() -> None:
    layers = recipe("v2drop-table5")
    found = reproduce(layers, records_for(layers, [70.0] * 9))
    assert not found.compared and any("only in its plot" in note for note in found.notes)


def test_a_recipe_without_a_table_is_refused() -> None:
    with pytest.raises(InputError, match="names no published table"):
        reproduce(recipe("quickstart"), [])


@pytest.mark.parametrize("name", [name for name in bundled() if recipe(name).published])
def test_another_model_stands_beside_the_same_part_of_the_table(name: str) -> None:
    """Table 2 of HiDivDrop has a half for each of two models, table 4 of V²Drop one for pictures and one for videos."""
    full, small = recipe(name), read_recipe(bundled()[name], demo=True)
    assert small.models == ("demo",)
    assert reproduce(small, []).model == reproduce(full, []).model == reproduce(full.on("demo"), []).model
    assert reproduce(full, []).model == full.models[0]


def test_a_table_that_nobody_printed_is_named_among_those_that_were() -> None:
    asked = recipe("todre-table3").model_copy(update={"published": Published(paper="todre", table="9")})
    with pytest.raises(UnknownNameError) as caught:
        reproduce(asked, [])
    assert "'9'" in caught.value.message and caught.value.hint == "known: 1, 2, 3, 4, 5, 6"
    with pytest.raises(UnknownNameError, match="no published paper 'fastv'"):
        published.cells("fastv")


@pytest.mark.parametrize("name", [name for name in bundled() if recipe(name).published])
def test_every_recipe_with_a_table_is_set_beside_it(name: str) -> None:
    """Each row with efficiency figures is compared; hardware, convention, bases and verdict are said."""
    chosen = recipe(name)
    assert chosen.published is not None
    times = [50.0 + place for place, _ in enumerate(chosen.cells())]
    found = reproduce(chosen, records_for(chosen, times))
    measured = {(entry.cell.method, entry.cell.variant, entry.cell.tokens) for entry in found.compared}
    for entry in found.compared:
        assert entry.ours is not None and (entry.label == "unpruned" or entry.our_gain)
    assert any(note.startswith("here: ") and "H200 (made up" in note for note in found.notes)
    if not found.compared:
        assert any("prints no efficiency figures" in note for note in found.notes)
        return
    for row in chosen.published.rows:
        assert row is not None and any((row.method, row.variant) == one[:2] for one in measured), row
    assert found.verdicts and any(note.startswith("paper: ") for note in found.notes)
    metrics = {entry.measure.title for entry in found.compared}
    if "FLOPs" in metrics:
        assert any(note.startswith("FLOPs: both sides") or "compare the ratios" in note for note in found.notes)
    bases = {entry.cell.token_basis for entry in found.compared if entry.label != "unpruned"}
    assert any("different bases" in note for note in found.notes) == (len(bases) > 1)


def test_reads_as_it_was_looked_at() -> None:
    todre = recipe("todre-table3")
    console = Console(file=io.StringIO(), width=80)
    console.print(render(reproduce(todre, records_for(todre, [70, 60, 56, 56, 50]))))
    same_as_golden("reproduce.txt", console.file.getvalue())  # type: ignore[attr-defined]
