"""Where a method stops winning, read off intervals."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests.records import make_record
from tokprof.measure.stats import Interval
from tokprof.recipe import Workload
from tokprof.report.export import export
from tokprof.report.trend_table import grids, stops_winning, trend_tables

WIN, OPEN, LOSS = Interval(1.1, 1.2, 1.3), Interval(0.9, 1.0, 1.1), Interval(0.7, 0.8, 0.9)


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ((WIN, WIN, WIN), "not up to 16"),
        ((WIN, WIN, OPEN), "between 4 and 16"),
        ((WIN, LOSS, LOSS), "between 1 and 4"),
        ((OPEN, OPEN, LOSS), "never wins here"),
        ((OPEN, WIN, WIN), "not up to 16"),
    ],
)
def test_stops_winning(speeds: tuple[Interval, ...], expected: str) -> None:
    assert stops_winning(tuple(zip((1, 4, 16), speeds, strict=True))) == expected


def test_one_table_per_quantity_that_varies() -> None:
    records = [
        make_record(workload=Workload(new_tokens=length), policy_ms=time) for length, time in ((16, 50.0), (512, 101.0))
    ]
    console = Console(width=100, no_color=True, record=True)
    tables = list(trend_tables(records))
    assert len(tables) == 1
    console.print(tables[0])
    text = console.export_text()
    assert "speed-up by new tokens" in text and "512" in text and "between 16 and 512" in text


def test_markdown_has_the_same_tables_and_says_aloud_what_turns() -> None:
    records = [
        make_record(workload=Workload(batch=batch), policy_ms=time)
        for batch, time in ((1, 50.0), (4, 150.0), (16, 200.0))
    ]
    text = export(records, "markdown")
    (grid,) = grids(records)
    for row in grid.rows:
        assert "| " + " | ".join(row).replace("[", "\\[").replace("]", "\\]") + " |" in text
    assert "**speed-up by batch**\n\n| method | 1 | 4 | 16 | stops winning |\n|:--|--:|--:|--:|--:|\n" in text
    assert "wins at batch 1 and loses at 4, 16" in text
    assert "speed-up by" not in export(records[:1], "markdown")
