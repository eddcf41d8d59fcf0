"""The same table for pull requests (markdown), spreadsheets (CSV), papers (LaTeX) and programs (JSON)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from tokprof.errors import UnknownNameError
from tokprof.record import Failure, RunRecord, records_as_json
from tokprof.report import derived
from tokprof.report.columns import Column, filled
from tokprof.report.derived import Side
from tokprof.report.table import about_machine, about_model, about_workload, warnings
from tokprof.report.trend_table import grids
from tokprof.report.trends import turns

PAPER_COLUMNS = (
    "layer_mean", "flops", "first_token_ms", "request_ms", "speedup",
    "peak_bytes", "requests_per_s", "greedy", "accuracy",
)  # fmt: skip
NO_CHANGE = ("speedup", "flops_ratio", "accuracy", "first_token_kl", "top1", "greedy")  # ratios and scores speak alone


def export(records: Sequence[RunRecord], form: str, failures: Sequence[Failure] = ()) -> str:
    """Text in one of `FORMATS`."""
    if form == "json":
        return records_as_json(records, failures)
    if form not in WRITERS:
        raise UnknownNameError("format", form, FORMATS)
    return WRITERS[form](records)


def markdown(records: Sequence[RunRecord]) -> str:
    blocks = []
    for group in derived.by_subject(records):
        rows = derived.sides(group)
        columns = filled(rows)
        lines = [f"**{_md(about_model(group[0]))}**  "]
        lines += [f"{_md(about_machine(group[0]))}  ", _md(about_workload(group[0])), ""]
        heads = ["method", *(column.title for column in columns)]
        lines += _md_table(heads, [[row.label, *(column.cell(row) for column in columns)] for row in rows])
        notes = [f"> {_md(text)} ({_md(', '.join(methods))})  " for text, methods in warnings(group).items()]
        blocks.append("\n".join([*lines, *(["", *notes] if notes else [])]))
    blocks += ["\n".join([f"**{grid.title}**", "", *_md_table(grid.heads, grid.rows)]) for grid in grids(records)]
    blocks += [f"> {_md(line)}" for line in turns(records)]
    return "\n\n".join(blocks) + "\n"


def _md_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [" | ".join(heads), *(" | ".join(map(_md, row)) for row in rows)]
    return [f"| {lines[0]} |", "|:--|" + "--:|" * (len(heads) - 1), *(f"| {line} |" for line in lines[1:])]


def _md(text: str) -> str:
    for mark in ("\\", "|", "<", ">", "*", "_", "`", "[", "]"):
        text = text.replace(mark, {"<": "&lt;", ">": "&gt;"}.get(mark, f"\\{mark}"))
    return " ".join(text.split())


FACTS: dict[str, Callable[[Side], object]] = {
    "model": lambda row: row.record.model.name,
    "weights": lambda row: row.record.model.weights,
    "device": lambda row: row.record.environment.device.name,
    "dtype": lambda row: row.record.model.dtype,
    "attention": lambda row: row.record.model.attention,
    "batch": lambda row: row.record.inputs.batch,
    "visual_tokens": lambda row: row.record.inputs.visual,
    "text_tokens": lambda row: row.record.inputs.text,
    "new_tokens": lambda row: row.record.inputs.new_tokens,
    "method": lambda row: row.name,
    "parameters": lambda row: row.budget,
}


def as_csv(records: Sequence[RunRecord]) -> str:
    """Full precision, base units in the heads; an empty cell is a quantity that was not measured."""
    groups = [derived.sides(group) for group in derived.by_subject(records)]
    columns = filled([row for rows in groups for row in rows])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FACTS, *(_head(column) for column in columns), "speedup_low", "speedup_high"])
    for row in (row for rows in groups for row in rows):
        found = None if row.dense else derived.speedup(row.record)
        values = [column.value(row) for column in columns]
        bounds = [found.low, found.high] if found else [None, None]
        writer.writerow(
            [*(fact(row) for fact in FACTS.values()), *("" if v is None else v for v in [*values, *bounds])]
        )
    return text.getvalue()


def _head(column: Column) -> str:
    unit = {"FLOP": "", "ms": "", "B": "", "×": "", "1/s": ""}.get(column.unit, column.unit)
    return f"{column.key}_{unit}" if unit and unit not in column.key else column.key


def latex(records: Sequence[RunRecord]) -> str:
    """booktabs, the columns that the papers have; beside each its change against the dense model, as they print it."""
    blocks = []
    for group in derived.by_subject(records):
        rows = derived.sides(group)
        columns = [column for column in filled(rows) if column.key in PAPER_COLUMNS]
        body = [_latex_row(row, rows[0], columns) for row in rows]
        about = [about_model(group[0]), about_machine(group[0]), about_workload(group[0])]
        blocks.append(
            "\n".join(
                [
                    *(f"% {' '.join(line.split())}" for line in about),
                    f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
                    "\\toprule",
                    " & ".join(["Method", *(_tex(column.title[:1].upper() + column.title[1:]) for column in columns)])
                    + " \\\\",
                    "\\midrule",
                    body[0],
                    *(["\\midrule"] if body[1:] else []),
                    *body[1:],
                    "\\bottomrule",
                    "\\end{tabular}",
                ]
            )
        )
    return "% \\usepackage{booktabs}\n" + "\n\n".join(blocks) + "\n"


def _latex_row(row: Side, dense: Side, columns: Sequence[Column]) -> str:
    cells = [f"{_tex(column.cell(row))}{_change(column, row, dense)}" for column in columns]
    return " & ".join([_tex(row.label), *cells]) + " \\\\"


def _change(column: Column, row: Side, dense: Side) -> str:
    value, before = column.value(row), column.value(dense)
    if row.dense or column.key in NO_CHANGE or value is None or not before or value == before:
        return ""
    arrow, change = "\\downarrow" if value < before else "\\uparrow", f"{abs(value / before - 1):.1%}"
    return "" if change == "0.0%" else f" {{\\scriptsize(${arrow}$ {_tex(change)})}}"


TEX = {
    "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "×": "$\\times$", "÷": "$\\div$", "≈": "$\\approx$",
    "µ": "$\\mu$", "–": "--", "<": "\\textless{}", ">": "\\textgreater{}", "→": "$\\to$", "·": "$\\cdot$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(TEX.get(letter, letter) for letter in " ".join(text.split()))


WRITERS: dict[str, Callable[[Sequence[RunRecord]], str]] = {"markdown": markdown, "csv": as_csv, "latex": latex}
FORMATS = ("json", *WRITERS)
