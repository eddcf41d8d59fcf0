"""How a reproduction is printed."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokprof import units
from tokprof.report.reproduce import Compared, Reproduction

PER_SECOND = {"samples/s": "1/s", "items/s": "1/s"}
GAIN = "gain: how many times better than the unpruned model of the same side"
HEADS = ("row", "metric", "paper", "ours", "÷ paper", "gain there", "gain here")


def render(found: Reproduction) -> RenderableType:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for head in HEADS:
        table.add_column(head, justify="left" if head in ("row", "metric") else "right", overflow="fold")
    previous = ""
    for entry in found.compared:
        table.add_row(*(Text(cell) for cell in _cells(entry, previous)))
        previous = entry.label
    title = f"{found.published.paper}, table {found.published.table}: {found.model}"
    parts: list[RenderableType] = [Text(title, style="bold"), Text("")]
    if found.compared:
        parts += [
            table,
            Text(""),
            *(Text(verdict, style="bold") for verdict in found.verdicts),
            Text(GAIN, style="dim"),
        ]
    parts += [Text(note, style="dim") for note in found.notes]
    return Group(*parts)


def _cells(entry: Compared, previous: str) -> tuple[str, ...]:
    unit = entry.measure.unit
    return (
        "" if entry.label == previous else entry.label,
        entry.measure.title,
        f"{entry.cell.printed} {PER_SECOND.get(entry.cell.unit, entry.cell.unit)}",
        units.MISSING if entry.ours is None else f"{units.number(entry.ours)} {unit}",
        units.ratio(entry.ratio),
        units.ratio(entry.paper_gain),
        units.ratio(entry.our_gain),
    )
