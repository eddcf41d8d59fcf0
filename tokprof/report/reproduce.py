"""A paper's table beside ours: cell by cell, and against each side's own unpruned model.

Absolute figures come from other machines, often from other quantities (totals over a benchmark); the
ratios to the unpruned model are what can be compared, so the verdict rests on them. A budget that
counts something else than its neighbours' is named with what it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tokprof import published, units
from tokprof.errors import InputError
from tokprof.published import Cell
from tokprof.recipe import Published, Recipe, Row
from tokprof.record import REQUEST_STAGES, Arm, RunRecord
from tokprof.report import derived
from tokprof.report.table import about_machine, about_model, about_workload

VANILLA = "vanilla"
LLM_STAGES = ("select", "prefill", "first_decode", "decode")
SAME = 0.005  # gains closer than this, or than our noise, are a tie when orders are compared


Value = Callable[[RunRecord, Arm], float | None]
TOTAL = "here one request, in the paper a benchmark's total"


@dataclass(frozen=True)
class Measure:
    """How a printed metric is measured here. `absolute`: whether the figures themselves mean the same."""

    title: str
    value: Value
    unit: str
    what: str
    better: Literal["lower", "higher"] = "lower"
    absolute: bool = True
    timed: bool = False


def _time(stages: Sequence[str], unit_ms: float) -> Value:
    """Per request of the batch."""

    def value(record: RunRecord, arm: Arm) -> float | None:
        time = derived.total_ms(arm, stages)
        return None if time is None else time / record.inputs.batch / unit_ms

    return value


def _peak(scale: float) -> Value:
    return lambda record, arm: None if (peak := derived.peak_bytes(arm)) is None else peak / scale


def _tera(convention: str) -> Value:
    """Per request of the batch."""

    def value(record: RunRecord, arm: Arm) -> float | None:
        count = derived.flops(arm, convention)
        return None if count is None else count / record.inputs.batch / 1e12

    return value


PEAK = "the CUDA allocator's peak (on a CPU the resident set)"
MEASURES: dict[str, Measure] = {
    "flops": Measure("FLOPs", _tera("exact"), "T", "exact FLOPs of a whole request"),
    "memory": Measure("memory", _peak(1e9), "GB", PEAK),
    "gpu_peak_memory": Measure("memory", _peak(1 << 20), "MB", PEAK),
    "latency": Measure(
        "latency", _time(REQUEST_STAGES, 1.0), "ms", "one request, from pixels to its last token", timed=True
    ),
    "llm_generation_latency": Measure(
        "LLM time", _time(LLM_STAGES, 1e3), "s", f"selection, prefill and decode; {TOTAL}", absolute=False, timed=True
    ),
    "model_generation_latency": Measure(
        "model time", _time(REQUEST_STAGES, 1e3), "s", TOTAL, absolute=False, timed=True
    ),
    "total_latency": Measure("total time", _time(REQUEST_STAGES, 1e3), "s", TOTAL, absolute=False, timed=True),
    "total_time": Measure("total time", _time(REQUEST_STAGES, 1e3), "s", TOTAL, absolute=False, timed=True),
    "throughput": Measure(
        "throughput", derived.requests_per_s, "1/s", "requests per second at this batch", "higher", timed=True
    ),
}
HIDIVDROP_FLOPS = Measure(
    "FLOPs", _tera("hidivdrop"), "T", "multiply–accumulates of the visual tokens in the decoder, as the paper counts"
)
CONVENTIONS = {
    "todre": "FLOPs: the paper's figures follow no reading of its equation 1; ours are exact, compare the ratios",
    "visiondrop": "FLOPs: both sides count everything at 2 per multiply–accumulate; the paper fits 66 text tokens",
    "hidivdrop": "FLOPs: both sides count multiply–accumulates of the visual tokens alone, printed as FLOPs",
}


@dataclass(frozen=True)
class Compared:
    """One printed cell beside the same quantity here; `*_gain` is how many times better than unpruned."""

    cell: Cell
    label: str
    measure: Measure
    ours: float | None
    same_model: bool
    paper_gain: float | None
    our_gain: float | None
    noise: float = 0.0  # half of our gain's 95 % interval, relative; 0 for what is counted

    @property
    def ratio(self) -> float | None:
        """Ours over the paper's, where both mean the same."""
        comparable = self.measure.absolute and self.same_model
        return self.ours / self.cell.value if comparable and self.ours and self.cell.value else None


@dataclass(frozen=True)
class Reproduction:
    """`unmeasured`: rows of the paper for which there is no record, with why."""

    published: Published
    model: str
    compared: tuple[Compared, ...]
    notes: tuple[str, ...]
    verdicts: tuple[str, ...]


def reproduce(recipe: Recipe, records: Sequence[RunRecord]) -> Reproduction:
    """What was measured for a recipe beside the table it names."""
    table = recipe.published
    if table is None:
        raise InputError(
            f"the recipe {recipe.title!r} names no published table",
            "run it with `tokprof sweep`; a recipe named after a table, such as todre-table3, can be reproduced",
        )
    model = _paper_model(recipe)
    cells = [
        cell
        for cell in published.table_cells(table.paper, table.table)
        if cell.model == model and _measure(table.paper, cell.metric) is not None
    ]
    compared: list[Compared] = []
    for method, row in zip(recipe.methods, table.rows, strict=False):
        record = next((r for r in records if r.cell.method == method), None)
        if row is not None:
            compared += _rows(table.paper, row, record, cells)
    dense = _rows(table.paper, Row(method=VANILLA), records[0] if records else None, cells, dense=True)
    return Reproduction(
        table,
        model,
        (*dense, *compared),
        tuple(_notes(table, cells, compared, records)),
        tuple(_verdicts(table.paper, compared)),
    )


def _paper_model(recipe: Recipe) -> str:
    """The model whose half of the table this is, also when another one was run."""
    table = recipe.published
    assert table is not None
    models = dict.fromkeys(cell.model for cell in published.table_cells(table.paper, table.table))
    wanted = table.model or recipe.models[0]
    return wanted if wanted in models else next(iter(models), "")


def _measure(paper: str, metric: str) -> Measure | None:
    """None for what is not measured here: accuracies, training, and brackets that repeat another cell."""
    if metric.endswith(".printed_change"):
        return None
    if metric == "flops" and paper == "hidivdrop":
        return HIDIVDROP_FLOPS
    name, _, benchmark = metric.partition(".")
    if name == "throughput" and benchmark:
        return replace(MEASURES["throughput"], title=f"throughput, {benchmark.upper()}")
    return MEASURES.get(metric)


def _rows(
    paper: str, row: Row, record: RunRecord | None, cells: Sequence[Cell], *, dense: bool = False
) -> list[Compared]:
    found = []
    for cell in cells:
        if (cell.method, cell.variant) != (row.method, row.variant) or row.tokens not in (None, cell.tokens):
            continue
        measure = _measure(paper, cell.metric)
        assert measure is not None
        ours = measure.value(record, record.baseline if dense else record.policy) if record else None
        before = measure.value(record, record.baseline) if record else None
        vanilla = next((c.value for c in cells if c.metric == cell.metric and c.method == VANILLA), None)
        label = "unpruned" if dense else " ".join(part for part in (row.method, row.variant) if part)
        found.append(
            Compared(
                cell,
                f"{label} ({cell.retained_tokens})" if row.tokens else label,
                measure,
                ours,
                record is None or record.model.name == cell.model,
                None if dense else _gain(measure, vanilla, cell.value),
                None if dense else _gain(measure, before, ours),
                _noise(measure, record),
            )
        )
    return found


def _noise(measure: Measure, record: RunRecord | None) -> float:
    found = derived.speedup(record) if record is not None and measure.timed else None
    return found.half_width if found else 0.0


def _gain(measure: Measure, before: float | None, after: float | None) -> float | None:
    if not before or not after:
        return None
    return before / after if measure.better == "lower" else after / before


def _notes(
    table: Published, cells: Sequence[Cell], compared: Sequence[Compared], records: Sequence[RunRecord]
) -> list[str]:
    notes = []
    setup = next((row for row in published.rows("setups") if _is_setup(row, table)), None)
    if setup:
        notes.append(f"paper: {setup['hardware']}; {setup['measured_on']}; {setup['notes']}")
    if records:
        ran = records[0]
        notes.append(f"here: {about_machine(ran)}; {about_model(ran)}; {about_workload(ran)}")
    if any(not entry.same_model for entry in compared):
        notes.append("another model than the paper's: only the gains can be compared, and with care")
    if any(cell.metric == "flops" for cell in cells) and table.paper in CONVENTIONS:
        notes.append(CONVENTIONS[table.paper])
    bases = {entry.label: entry.cell.token_basis for entry in compared}
    if len(set(bases.values())) > 1:
        listed = ", ".join(f"{label}: {basis}" for label, basis in bases.items())
        notes.append(f"budgets of different bases, not the same cost: {listed}")
    used = {entry.measure.title: entry.measure.what for entry in compared}
    notes += [f"{title}: {what}" for title, what in used.items()]
    notes += [
        f"known about {row['where']}: {row['finding']}"
        for row in published.rows("anomalies")
        if row["paper"] == table.paper and f"table {table.table}" in row["where"].replace(" vs", ",")
    ]
    if not cells:
        notes.append("the paper prints no efficiency figures for this table: they are only in its plot")
    return notes


def _is_setup(row: dict[str, str], table: Published) -> bool:
    return row["paper"] == table.paper and table.table in row["table"].split(",")


def _verdicts(paper: str, compared: Sequence[Compared]) -> list[str]:
    """Per metric: whether the order of the methods is the paper's, and what the last row gains on both sides."""
    verdicts = []
    for title in dict.fromkeys(entry.measure.title for entry in compared):
        both = [
            (entry, entry.paper_gain, entry.our_gain)
            for entry in compared
            if entry.measure.title == title and entry.paper_gain and entry.our_gain
        ]
        if not both:
            continue
        last, theirs, ours = next((found for found in both if found[0].cell.method == paper), both[-1])
        order = _order([(entry.label, a, b, entry.noise) for entry, a, b in both])
        verdicts.append(f"{title}: {last.label} {units.ratio(ours)} here, {units.ratio(theirs)} there{order}")
    return verdicts


def _order(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Whether rows that differ on both sides differ the same way; what ties on either side has no order."""
    pairs = [
        (one, other, (a > c) == (b > d))
        for index, (one, a, b, noise) in enumerate(rows)
        for other, c, d, more in rows[index + 1 :]
        if abs(a / c - 1) > SAME and abs(b / d - 1) > max(SAME, noise + more)
    ]
    swapped = [(one, other) for one, other, kept in pairs if not kept]
    if not pairs:
        return ""
    if not swapped:
        return "; order kept"
    return f"; order differs in {len(swapped)} of {len(pairs)} pairs, first {' and '.join(swapped[0])}"
