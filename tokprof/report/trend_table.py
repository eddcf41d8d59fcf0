"""Speed-ups along what a sweep varied (batch, answer length, visual tokens), and where a method stops winning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tokprof import units
from tokprof.measure.stats import Interval
from tokprof.record import RunRecord
from tokprof.report import derived
from tokprof.report.trends import AXES, Trend, trends


@dataclass(frozen=True)
class Grid:
    """Along one quantity: a row per method, a column per value."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def grids(records: Sequence[RunRecord]) -> list[Grid]:
    """One per quantity that varies."""
    every = trends(records)
    by_axis = ((axis, [trend for trend in every if trend.axis == axis]) for axis in AXES)
    return [_grid(axis, chosen) for axis, chosen in by_axis if chosen]


def _grid(axis: str, chosen: Sequence[Trend]) -> Grid:
    places = sorted({place for trend in chosen for place, _ in trend.points})
    rows = []
    for trend in chosen:
        found = dict(trend.points)
        cells = [derived.interval_text(found[place]) if place in found else units.MISSING for place in places]
        rows.append((trend.label, *cells, stops_winning(trend.points)))
    heads = ("method", *(f"{place:,}" for place in places), "stops winning")
    return Grid(f"speed-up by {axis}", heads, tuple(rows))


def trend_tables(records: Sequence[RunRecord]) -> Iterator[Table]:
    for grid in grids(records):
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), title=grid.title, title_justify="left")
        first, *values, last = grid.heads
        table.add_column(first, overflow="fold")
        for value in values:
            table.add_column(value, justify="right")
        table.add_column(last, justify="right", overflow="fold")
        for row in grid.rows:
            table.add_row(*row)
        yield table


def stops_winning(points: Sequence[tuple[int, Interval]]) -> str:
    """Where, between two measured values, the speed-up's interval first stops being above 1."""
    wins = [(place, speed.low > 1) for place, speed in points]
    if not any(won for _, won in wins):
        return "never wins here"
    for (before, won), (after, wins_after) in pairwise(wins):
        if won and not wins_after:
            return f"between {before:,} and {after:,}"
    return f"not up to {wins[-1][0]:,}"
