"""Counted operations beside the formula's, part by part. No torch."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from tokprof import units
from tokprof.flops.analytic import PARTS
from tokprof.flops.residuals import TOLERANCE, Residuals, Uncounted
from tokprof.report.stacked import Stacked


def render(found: Residuals | Uncounted) -> Iterator[RenderableType]:
    if isinstance(found, Uncounted):
        bounds = f"{units.operations(found.least)} to {units.operations(found.most)}"
        yield Text(
            f"{found.label}: its data decide how many tokens stay, so there is nothing to count without data. "
            f"By its plan it costs {bounds}; a parameter that fixes the decision makes it countable.\n"
        )
        return
    yield Text(f"{found.label}: exact and counted, FLOPs", style="bold")
    table = Stacked("part", ["exact", "counted", "residual"])
    for part in PARTS:
        residual = found.residual(part)
        row = (units.operations(found.exact[part]), units.operations(found.counted[part]), _percent(residual))
        table.add(part, *row, style="red" if abs(residual) > TOLERANCE else "")
    exact, counted = sum(found.exact.values()), sum(found.counted.values())
    table.add(
        "total", units.operations(exact), units.operations(counted), _percent((exact - counted) / counted), style="bold"
    )
    yield table
    if found.second_opinion is not None:
        off = found.second_opinion / counted - 1
        yield Text(f"fvcore, its multiply–accumulates × 2: {units.operations(found.second_opinion)} ({_percent(off)})")
    if found.unknown_matrix_work:
        names = ", ".join(
            f"{name} ({units.counted(calls, 'call')})" for name, calls in found.unknown_matrix_work.items()
        )
        yield Text(f"! matrix work that torch's counter does not know: {names}", style="yellow")
    names = ", ".join(found.without_formula)
    yield Text(f"operators without a formula, counted as nothing: {names}", style="dim")
    yield Text("")


def _percent(value: float) -> str:
    return "0 %" if value == 0 else units.signed(100 * value, "{:.4f} %".format)


def as_data(found: Residuals | Uncounted) -> dict[str, object]:
    if isinstance(found, Uncounted):
        return {"method": found.label, "counted": None, "least": found.least, "most": found.most}
    return {
        "method": found.label,
        "exact": dict(found.exact),
        "counted": dict(found.counted),
        "residual": {part: found.residual(part) for part in PARTS},
        "unknown_matrix_work": dict(found.unknown_matrix_work),
        "without_formula": dict(found.without_formula),
        "fvcore_flops": found.second_opinion,
    }
