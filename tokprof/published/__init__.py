"""The papers' own numbers as data, read without torch.

One row per printed table cell of V²Drop, VisionDrop, ToDRE and HiDivDrop, as printed; beside them the
repairs of what scanning had lost, what could not be read, the inconsistencies of the sources
themselves, and what a budget counts (`token_basis`). docs/flops.md says how they were checked.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

from tokprof.errors import UnknownNameError

PAPERS = ("v2drop", "visiondrop", "todre", "hidivdrop")
REMARKS = ("anomalies", "claims", "flops_check", "model_dims", "omitted", "repairs", "setups", "speedups")


@dataclass(frozen=True)
class Cell:
    """One printed number. `printed` keeps its digits; `metric` ending in `.printed_change` is a bracket beside it.

    `token_basis`: what the budget counts (`layer_avg`, `pre_llm`, `full` …). Budgets of different bases
    must never be compared.
    """

    paper: str
    table: str
    model: str
    method: str
    variant: str
    budget_label: str
    retained_tokens: str
    retained_ratio: str
    token_basis: str
    kind: str
    metric: str
    printed: str
    unit: str
    note: str

    @property
    def value(self) -> float:
        return float(self.printed)

    @property
    def tokens(self) -> float | None:
        return float(self.retained_tokens) if self.retained_tokens else None

    @property
    def half_step(self) -> float:
        """Half of the last printed digit: how far the true value may lie from the printed one."""
        return 0.5 * 10.0 ** -len(self.printed.partition(".")[2])


@cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """Any of the data files as read: a paper, one of `REMARKS`, or `schedules`."""
    with files(__name__).joinpath(f"{name}.csv").open(encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


@cache
def cells(paper: str) -> tuple[Cell, ...]:
    """Every printed cell of one paper."""
    if paper not in PAPERS:
        raise UnknownNameError("published paper", paper, PAPERS)
    names = [field.name for field in fields(Cell)]
    return tuple(Cell(*(row["value" if name == "printed" else name] for name in names)) for row in rows(paper))


def table_cells(paper: str, table: str) -> list[Cell]:
    """Every printed cell of one table."""
    known = dict.fromkeys(cell.table for cell in cells(paper))
    if table not in known:
        raise UnknownNameError(f"table of {paper}", table, known, f"known: {', '.join(known)}")
    return [cell for cell in cells(paper) if cell.table == table]


def find(metric: str, *, model: str | None = None, method: str | None = None) -> list[Cell]:
    """Cells of all papers with this metric, narrowed down by model and method."""
    return [
        cell
        for paper in PAPERS
        for cell in cells(paper)
        if cell.metric == metric and model in (None, cell.model) and method in (None, cell.method)
    ]


def schedule(method: str, model: str, label: str) -> tuple[float, ...]:
    """Visual tokens entering each decoder layer: published, in the released code, or inferred (`source` says)."""
    steps = {
        int(row["layer"]): float(row["visual_tokens"])
        for row in rows("schedules")
        if (row["method"], row["model"], row["label"]) == (method, model, label)
    }
    return tuple(steps[layer] for layer in sorted(steps))
