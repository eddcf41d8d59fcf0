"""What changes from table to table of one sweep: speed-up against visual tokens, batch or answer length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tokprof import units
from tokprof.measure.stats import Interval
from tokprof.record import RunRecord
from tokprof.report import derived
from tokprof.report.charts import Drawing, legend
from tokprof.report.svg import Axis, Chart, spanning

AXES: dict[str, Callable[[RunRecord], int]] = {
    "visual tokens": lambda record: record.inputs.visual,
    "batch": lambda record: record.inputs.batch,
    "new tokens": lambda record: record.inputs.new_tokens,
}


@dataclass(frozen=True)
class Trend:
    """One method's speed-ups along one quantity, everything else alike, in ascending order."""

    label: str
    axis: str
    points: tuple[tuple[int, Interval], ...]


def trends(records: Sequence[RunRecord]) -> list[Trend]:
    found = []
    for axis, position in AXES.items():
        families: dict[tuple[str, ...], list[RunRecord]] = {}
        for record in records:
            families.setdefault((_method(record), *_circumstances(record, axis)), []).append(record)
        several = {key: members for key, members in families.items() if len(set(map(position, members))) > 1}
        for key, label in zip(several, _labels(list(several)), strict=True):
            speeds = {position(record): derived.speedup(record) for record in several[key]}
            points = tuple((place, speed) for place, speed in sorted(speeds.items()) if speed is not None)
            if len(points) > 1:
                found.append(Trend(label, axis, points))
    return found


def _method(record: RunRecord) -> str:
    return derived.Side(record, record.policy, False).label


def _circumstances(record: RunRecord, axis: str) -> tuple[str, ...]:
    """What stays the same along an axis, in words."""
    facts = record.model
    rest = [_said(name, read(record)) for name, read in AXES.items() if name != axis]
    return facts.name, facts.weights, facts.dtype, record.environment.device.name, *rest


def _said(axis: str, value: int) -> str:
    return f"batch {value:,}" if axis == "batch" else units.counted(value, axis.removesuffix("s"))


def _labels(keys: Sequence[tuple[str, ...]]) -> list[str]:
    """The method, and of the circumstances those that are not the same in every row."""
    telling = [len(set(column)) > 1 for column in zip(*keys, strict=True)]
    return [" · ".join([key[0], *(key[i] for i in range(1, len(key)) if telling[i])]) for key in keys]


def turns(records: Sequence[RunRecord]) -> list[str]:
    """A win that becomes a loss has to be said aloud; what an interval leaves open is neither."""
    said = []
    for trend in trends(records):
        wins = [place for place, speed in trend.points if speed.low > 1]
        losses = [place for place, speed in trend.points if speed.high < 1]
        if wins and losses:
            named = ", ".join(f"{place:,}" for place in wins), ", ".join(f"{place:,}" for place in losses)
            said.append(f"{trend.label} wins at {trend.axis} {named[0]} and loses at {named[1]}")
    return said


def drawings(records: Sequence[RunRecord]) -> list[Drawing]:
    """One chart per quantity that varies."""
    found, every = [], trends(records)
    for axis in AXES:
        chosen = [trend for trend in every if trend.axis == axis]
        if chosen:
            found.append(_drawing(axis, chosen))
    return found


def _drawing(axis: str, chosen: Sequence[Trend]) -> Drawing:
    places = [float(place) for trend in chosen for place, _ in trend.points]
    speeds = [edge for trend in chosen for _, speed in trend.points for edge in (speed.low, speed.high)]
    chart = Chart(
        Axis(axis, *spanning(places, log=True), units.count, log=True),
        Axis("speed-up of a request", *spanning([*speeds, 1.0]), units.ratio),
    )
    edges = (chart.x.low, chart.x.high)
    chart.line(0, [(edge, 1.0) for edge in edges], "1×: as fast as the dense model", css="front")
    for index, trend in enumerate(chosen):
        points = [(float(place), speed.ratio) for place, speed in trend.points]
        tip = trend.label + "".join(f"\n{place:,}: {derived.interval_text(speed)}" for place, speed in trend.points)
        chart.line(index, points, tip)
        for place, speed in trend.points:
            chart.point(index, place, speed.ratio, f"{trend.label}\n{axis} {place:,}: {derived.interval_text(speed)}")
    note = "each point is a table of its own below; the dashed line is the dense model"
    return Drawing(f"Speed-up against {axis}", chart.render(axis), note, legend=legend([t.label for t in chosen]))
