"""The papers' FLOPs beside ours as a table, and as data. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from tokprof import units
from tokprof.flops.published import comparisons, stage_ratios
from tokprof.report.stacked import Stacked


def render() -> Iterator[RenderableType]:
    for (paper, reading), group in groupby(comparisons(), key=lambda found: (found.cell.paper, found.reading)):
        found = list(group)
        yield Text(f"{paper}, table {found[0].cell.table}, read as {reading}", style="bold")
        table = Stacked("model, method", ["printed, T", "ours, T", "residual"])
        for row in found:
            table.add(
                f"{row.cell.model} {row.cell.method}",
                row.cell.printed,
                units.MISSING if row.computed is None else f"{row.computed:.3f}",
                units.MISSING if row.residual is None else units.signed(100 * row.residual, "{:.2f} %".format),
            )
        yield table
        for row in found:
            yield Text(f"  {row.cell.model} {row.cell.method}: {row.verdict}", style="dim")
        yield Text("")
    yield from _ratios()


def _ratios() -> Iterator[RenderableType]:
    yield Text("todre, section 3.1: encoding : prefilling : decoding, n = 3000, 20 outputs, eq. 1 and 2", style="bold")
    table = Stacked("model", ["printed", "ours (5 tiles of 577)", "prefill ÷ decode"])
    for row in stage_ratios():
        printed = " : ".join(f"{part:g}" for part in row.printed)
        ours = " : ".join(f"{part:.3g}" for part in row.computed)
        table.add(row.model, printed, ours, "{:.0f}, ours {:.0f}".format(*row.prefill_per_decode))
    yield table
    yield Text("Prefill : decode recomputes (0.4 is rounded); the encoder's share is not reproducible.", style="dim")


def as_data() -> list[dict[str, Any]]:
    return [
        {
            "paper": row.cell.paper,
            "table": row.cell.table,
            "model": row.cell.model,
            "method": row.cell.method,
            "printed_tera": row.cell.value,
            "reading": row.reading,
            "computed_tera": row.computed,
            "residual": row.residual,
            "verdict": row.verdict,
        }
        for row in comparisons()
    ]
