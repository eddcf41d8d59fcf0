"""`tokprof eval` in the terminal: accuracy beside its cost, per kind of question below, and what the figures mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokprof import units
from tokprof.accuracy.evaluation import Answers, Evaluation, Share

GAP = 2
NOTE = (
    "In brackets: Wilson's 95 % interval. To dense: percentage points on the same questions (how many were "
    "answered better, how many worse), with the p of McNemar's exact test. FLOPs: until the first new token."
)


def render(found: Evaluation, *, width: int) -> RenderableType:
    blocks: list[RenderableType] = [Text(found.about, style="bold"), Text(found.asked.task), Text("")]
    blocks.append(_overall(found))
    for kinds in _packed(found, width):
        blocks += [Text(""), _by_kind(found, kinds)]
    if found.dense.yes_no:
        blocks += [Text(""), _yes_no(found)]
    blocks += [Text(""), Text(NOTE, style="dim")]
    if not found.trained:
        blocks.append(Text("! these weights are random: the answers mean nothing", style="yellow"))
    return Group(*blocks)


def label(row: Answers) -> str:
    """The method and its budget."""
    keep = row.parameters.get("keep")
    return row.method if keep is None else f"{row.method} keep={keep:g}"


def share_text(found: Share, digits: int = 0) -> str:
    """97.5 [94, 99], in percent"""
    low, high = found.interval
    return f"{100 * found.value:.1f} [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def difference_text(row: Answers, dense: Answers) -> tuple[str, str]:
    """(points and how many questions went better and worse, p)"""
    found = row.against(dense)
    return f"{100 * found.difference:+.1f} (+{found.better} −{found.worse})", p_text(found.p)


def p_text(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def _table(*titles: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _filled(table: Table, found: Evaluation, cells: Iterator[Sequence[str]]) -> Table:
    for row, texts in zip(found.rows, cells, strict=True):
        table.add_row(Text(label(row)), *map(Text, texts), style="dim" if row is found.dense else "")
    return table


def _overall(found: Evaluation) -> Table:
    def cells() -> Iterator[Sequence[str]]:
        for row in found.rows:
            cost = units.count(row.layer_mean), units.ratio(found.dense.flops / row.flops)
            dense = row is found.dense
            yield *cost, share_text(row.share(), 1), *(("", "") if dense else difference_text(row, found.dense))

    table = _table("layer mean", "FLOPs ÷", "accuracy, %", "to dense", "p")
    return _filled(table, found, cells())


def _packed(found: Evaluation, width: int) -> list[list[str]]:
    """Kinds in as few tables as the width allows; none where there is only one kind."""
    kinds = found.asked.kinds
    if len(kinds) < 2:
        return []
    cells = {kind: max(len(kind), *(len(share_text(row.share(kind))) for row in found.rows)) for kind in kinds}
    first = max(len(label(row)) for row in found.rows)
    tables: list[list[str]] = [[]]
    used = first
    for kind in kinds:
        if tables[-1] and used + GAP + cells[kind] > width:
            tables.append([])
            used = first
        tables[-1].append(kind)
        used += GAP + cells[kind]
    return tables


def _by_kind(found: Evaluation, kinds: Sequence[str]) -> Table:
    rows = ([share_text(row.share(kind)) for kind in kinds] for row in found.rows)
    return _filled(_table(*kinds), found, rows)


def _yes_no(found: Evaluation) -> Table:
    def cells() -> Iterator[Sequence[str]]:
        for row in found.rows:
            summary = row.yes_no
            assert summary is not None, "all rows answer the same questions"
            shares = (summary.accuracy, summary.precision, summary.recall, summary.f1, summary.yes_ratio)
            yield [units.share(value) for value in shares]

    table = _table("yes/no accuracy", "precision", "recall", "F1", "yes ratio")
    return _filled(table, found, cells())
