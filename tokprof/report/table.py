"""The terminal's answer: what was measured, a table, and what to know before believing it.

Groups of columns are packed into as few tables as the width allows, so that 80 columns show the
same figures as 160, below each other instead of side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokprof import units
from tokprof.record import RunRecord
from tokprof.report import derived, trends
from tokprof.report.columns import Column, filled
from tokprof.report.derived import Side
from tokprof.report.explain import sentence
from tokprof.report.trend_table import trend_tables

GAP = 2  # between columns
LABEL_LIMIT = 20


def render(records: Sequence[RunRecord], *, width: int | None = None) -> RenderableType:
    """Tables for all records, one per model, machine and workload; `width` in characters, else the terminal's."""
    width = width or Console().width
    blocks: list[RenderableType] = []
    for group in derived.by_subject(records):
        gap = [Text("")] if blocks else []
        blocks += [*gap, *_about(group[0]), *_tables(derived.sides(group), width), *_remarks(group)]
    return Group(
        *blocks, *trend_tables(records), *(Text(f"! {line}", style="yellow") for line in trends.turns(records))
    )


def about_model(record: RunRecord) -> str:
    """One line: what ran."""
    facts = record.model
    return f"{facts.name} · {facts.weights} · {facts.dtype} · {facts.attention} attention"


def about_machine(record: RunRecord) -> str:
    device, environment = record.environment.device, record.environment
    torch = environment.libraries.get("torch")
    name = device.name if device.kind == "cuda" or "CPU" in device.name else f"CPU: {device.name}"
    parts = [name, f"CUDA {device.cuda}" if device.cuda else "", f"torch {torch}" if torch else ""]
    if device.threads:
        parts.insert(1, units.counted(device.threads, "thread"))
    return " · ".join(part for part in parts if part)


def about_workload(record: RunRecord) -> str:
    inputs = record.inputs
    batch = f"batch {inputs.batch} · " if inputs.batch > 1 else ""
    tokens = f"{inputs.visual:,} visual + {inputs.text:,} text tokens → {inputs.new_tokens:,} new"
    return f"{inputs.description} · {batch}{tokens}"


def _about(record: RunRecord) -> Iterator[RenderableType]:
    yield Text(about_model(record), style="bold")
    yield Text(about_machine(record))
    yield Text(about_workload(record))


def _folded(label: str, width: int) -> str:
    """Method and parameters, the parameters in lines of their own where they are long."""
    if len(label) <= width:
        return label
    name, _, parameters = label.partition(" ")
    return "\n".join([name, *wrap(parameters, width, initial_indent="  ", subsequent_indent="  ")])


def _packed(columns: Sequence[Column], rows: Sequence[Side], first: int, further: int) -> list[list[Column]]:
    """Columns in order, in as few tables as fit the room of the first and of further tables.

    A group of columns is split only where it alone is too wide.
    """
    tables: list[list[Column]] = [[]]
    used = 0
    for group in dict.fromkeys(found.group for found in columns):
        members = [found for found in columns if found.group == group]
        widths = [_width(found, rows) for found in members]
        together = sum(widths)
        for found, wide in zip(members, widths, strict=True):
            room = first if len(tables) == 1 else further
            if used and used + max(wide, together) > room:
                tables.append([])
                used = 0
            together = 0
            tables[-1].append(found)
            used += wide
    return tables


def _width(found: Column, rows: Sequence[Side]) -> int:
    cells = [found.cell(row) for row in rows]
    return GAP + max(len(text) for text in [found.title, *cells])


def _tables(rows: Sequence[Side], width: int) -> Iterator[RenderableType]:
    """The first table names every parameter; those below it only what tells its rows apart."""
    full, short = _labels([row.label for row in rows]), _labels(derived.short_labels(rows))
    for place, columns in enumerate(_packed(filled(rows), rows, width - _widest(full), width - _widest(short))):
        labels = short if place else full
        table = Table(box=SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
        table.add_column("method", no_wrap=True)
        for found in columns:
            table.add_column(found.title, justify="right", no_wrap=True)
        for label, row in zip(labels, rows, strict=True):
            cells = [Text(found.cell(row)) for found in columns]
            table.add_row(Text(label), *cells, style="dim" if row.dense else "")
        yield Text("")
        yield table


def _labels(names: Sequence[str]) -> list[str]:
    return [_folded(name, LABEL_LIMIT) for name in names]


def _widest(labels: Sequence[str]) -> int:
    return max(len(line) for label in ["method", *labels] for line in label.split("\n"))


def _remarks(records: Sequence[RunRecord]) -> Iterator[RenderableType]:
    yield Text("")
    yield Text(NOTE, style="dim")
    explained = reasons(records) if len(records) <= REASONS_SHOWN else [MORE_REASONS]
    for line in [*dense_remarks(records), *accuracy_sources(records), *energy_remarks(records), *explained]:
        yield Text(line)
    for warning, methods in warnings(records).items():
        whose = f" ({', '.join(methods)})" if len(methods) < len(records) else ""
        yield Text(f"! {warning}{whose}", style="yellow")


NOTE = (
    "Medians. Speed-up: whole request, dense ÷ method, each against the dense rounds it was interleaved with "
    "(the dense row shows the middle one of these), with its 95 % interval. "
    "FLOPs ÷: those of the dense model ÷ the method's (2 per multiply–accumulate, everything counted)."
)
REASONS_SHOWN = 6
MOODY = 0.05
MORE_REASONS = "`tokprof explain` says of each method why its speed-up is not its saving in FLOPs."


def dense_remarks(records: Sequence[RunRecord]) -> list[str]:
    """Where the machine changed its speed between the methods, milliseconds do not divide to the speed-ups."""
    found = derived.dense_range_ms(records)
    if not found or found[1] / found[0] - 1 <= MOODY:
        return []
    least, most = (units.milliseconds(ms) for ms in found)
    return [
        f"Beside the methods the dense request took from {least} to {most}: the machine changed its speed meanwhile, "
        "so compare speed-ups, not milliseconds."
    ]


def accuracy_sources(records: Sequence[RunRecord]) -> list[str]:
    """Whose accuracies the table shows, and in what."""
    arms = [arm for record in records for arm in (record.baseline, record.policy)]
    found = {f"accuracy: {arm.accuracy.task} ({arm.accuracy.source})" for arm in arms if arm.accuracy}
    return sorted(found)


def energy_remarks(records: Sequence[RunRecord]) -> list[str]:
    """Over what it was measured; or that it was asked for and this device does not count it, which is not zero."""
    if not any(record.cell.measurement.energy for record in records):
        return []
    found = [arm.energy for record in records for arm in (record.baseline, record.policy) if arm.energy]
    if not found:
        return ["energy: not supported here (no NVML counter of this device)"]
    idle = [energy.idle_watts for energy in found if energy.idle_watts is not None]
    window = f"energy: over {min(energy.window_s for energy in found):.1f} s of requests or more"
    return [f"{window}, the device idle at {min(idle):.0f} W" if idle else window]


def reasons(records: Sequence[RunRecord]) -> list[str]:
    """Per policy, why the request is not as many times faster as its FLOPs are fewer."""
    return [found for record in records if (found := sentence(record))]


def warnings(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """Each warning once, with the methods it belongs to."""
    found: dict[str, list[str]] = {}
    for record in records:
        for warning in record.warnings:
            found.setdefault(warning, []).append(derived.Side(record, record.policy, False).label)
    return found
