"""Comparisons for a terminal and for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokprof import units
from tokprof.record import RunRecord
from tokprof.report.comparable import label
from tokprof.report.compare import Comparison, Line

HEADER = ("metric", "before", "after", "ratio", "95 % interval", "verdict")  # ratio: after ÷ before
WIDE = 0.05  # relative half-width beyond which a third digit says nothing
STYLES = {"SLOW": "red", "MORE": "red", "FAST": "green", "LESS": "green", "AMBIGUOUS": "yellow"}


def render(
    comparisons: Sequence[Comparison], gone: Sequence[RunRecord] = (), new: Sequence[RunRecord] = ()
) -> RenderableType:
    blocks: list[RenderableType] = []
    for found in comparisons:
        blocks.append(Text(found.label, style="bold"))
        if found.lines:
            blocks.append(_table(found.lines))
        blocks += [Text(remark, style="yellow") for remark in remarks(found)]
    blocks += [Text(line, style="yellow") for line in unmatched(gone, new)]
    return Group(*blocks)


def markdown(comparisons: Sequence[Comparison], gone: Sequence[RunRecord] = (), new: Sequence[RunRecord] = ()) -> str:
    parts: list[str] = []
    for found in comparisons:
        parts += [f"### {escaped(found.label)}", ""]
        if found.lines:
            parts += ["| " + " | ".join(HEADER) + " |", "|---|--:|--:|--:|:-:|---|"]
            parts += ["| " + " | ".join(escaped(cell) for cell in cells(line)) + " |" for line in found.lines]
            parts.append("")
        parts += [f"> {escaped(remark)}\n" for remark in remarks(found)]
    parts += [f"> {escaped(line)}\n" for line in unmatched(gone, new)]
    return "\n".join(parts).rstrip() + "\n"


def escaped(text: str) -> str:
    """Names may be anything; in markdown they stay text, on one line and in their cell."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def cells(line: Line) -> tuple[str, ...]:
    interval = ""
    if line.interval:
        digits = 3 if line.interval.half_width < WIDE else 2
        interval = f"[{line.interval.low:.{digits}f}, {line.interval.high:.{digits}f}]"
    ratio = "" if line.ratio is None else f"{line.ratio:.3f}"
    return (line.metric, line.before, line.after, ratio, interval, line.verdict)


def remarks(found: Comparison) -> Iterator[str]:
    if found.differs:
        fields = "; ".join(str(difference) for difference in found.differs)
        word = "INCOMPARABLE" if not found.lines else "compared by force, although these differ"
        yield f"{word}: {fields}"
    yield from found.remarks


def unmatched(gone: Sequence[RunRecord], new: Sequence[RunRecord]) -> Iterator[str]:
    for word, records in (("only before", gone), ("only after", new)):
        if records:
            yield f"{units.count(len(records))} {word}: " + "; ".join(label(record) for record in records)


def _table(lines: Sequence[Line]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in HEADER:
        table.add_column(name, justify="left" if name in ("metric", "verdict") else "right", overflow="fold")
    for line in lines:
        *figures, verdict = cells(line)
        table.add_row(*figures, Text(verdict, style=STYLES.get(verdict, "")))
    return table
