from __future__ import annotations

import pytest

from tokprof import published
from tokprof.flops.published import comparisons, stage_ratios


def test_all_cells_are_there_and_numbers() -> None:
    cells = [cell for paper in published.PAPERS for cell in published.cells(paper)]
    assert len(cells) == 2182
    assert all(cell.value == cell.value for cell in cells)
    assert {cell.paper for cell in cells} == set(published.PAPERS)


@pytest.mark.parametrize("name", [*published.REMARKS, "schedules"])
def test_remarks_come_along(name: str) -> None:
    assert published.rows(name)


def test_half_step_is_half_of_the_last_printed_digit() -> None:
    by_print = {cell.printed: cell.half_step for cell in published.find("flops")}
    assert by_print["3.82"] == pytest.approx(0.005)
    assert by_print["31.4"] == pytest.approx(0.05)


def test_find_narrows_down() -> None:
    found = published.find("flops", model="llava-next-7b", method="todre")
    assert [cell.printed for cell in found] == ["6.0"]


def test_verdicts_on_the_papers_flops() -> None:
    found = {(row.cell.paper, row.cell.model, row.cell.method): row for row in comparisons()}
    assert len(found) == 16
    for (paper, _, method), row in found.items():
        if paper == "todre":
            assert row.verdict.startswith("not reproducible: ")
            assert (row.computed is None) == (method == "sparsevlm")
        else:
            assert row.verdict.startswith("reproduced")
            assert row.residual is not None and abs(row.residual) < 0.0205
    reading = {paper: row.reading for (paper, _, _), row in found.items()}
    assert reading["hidivdrop"].startswith("hidivdrop")
    assert reading["visiondrop"].startswith("exact")


def test_the_reading_of_fastvs_figure_says_which_tokens_it_is_for() -> None:
    (row,) = (row for row in comparisons() if (row.cell.paper, row.cell.method) == ("todre", "fastv"))
    assert row.residual == pytest.approx(-0.25, abs=0.01)
    assert "2205 and 258 tokens of that guess" in row.verdict and "printed 2880 and 288" in row.verdict


def test_todres_stage_ratio() -> None:
    for row in stage_ratios():
        printed, ours = row.prefill_per_decode
        assert ours == pytest.approx(150, abs=0.1)
        assert printed == pytest.approx(ours, rel=0.07), "0.4 is printed with one digit"
        assert row.computed[1] < row.printed[1] / 3, "with the tiles that really run the encoder weighs more"
