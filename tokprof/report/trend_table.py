"""Speed-ups along what a sweep varied (batch, answer length, visual tokens), and where a method stops winning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tokprof import units
from tokprof.measure.stats import Interval
from tokprof.record import RunRecord
from tokprof.report import derived
from tokprof.report.trends import AXES, Trend, trends


def trend_tables(records: Sequence[RunRecord]) -> Iterator[Table]:
    """One table per quantity that varies; a row per method, a column per value."""
    every = trends(records)
    for axis in AXES:
        rows = [trend for trend in every if trend.axis == axis]
        if rows:
            yield _table(axis, rows)


def _table(axis: str, rows: Sequence[Trend]) -> Table:
    places = sorted({place for trend in rows for place, _ in trend.points})
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), title=f"speed-up by {axis}", title_justify="left"
    )
    table.add_column("method", overflow="fold")
    for place in places:
        table.add_column(f"{place:,}", justify="right")
    table.add_column("stops winning", justify="right", overflow="fold")
    for trend in rows:
        found = dict(trend.points)
        cells = [derived.interval_text(found[place]) if place in found else units.MISSING for place in places]
        table.add_row(trend.label, *cells, stops_winning(trend.points))
    return table


def stops_winning(points: Sequence[tuple[int, Interval]]) -> str:
    """Where, between two measured values, the speed-up's interval first stops being above 1."""
    wins = [(place, speed.low > 1) for place, speed in points]
    if not any(won for _, won in wins):
        return "never wins here"
    for (before, won), (after, wins_after) in pairwise(wins):
        if won and not wins_after:
            return f"between {before:,} and {after:,}"
    return f"not up to {wins[-1][0]:,}"
