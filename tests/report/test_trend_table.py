"""Where a method stops winning, read off intervals."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests.records import make_record
from tokprof.measure.stats import Interval
from tokprof.recipe import Workload
from tokprof.report.trend_table import stops_winning, trend_tables

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
