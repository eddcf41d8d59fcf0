"""Which cells the gate measures, and how often, each time in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tokprof.gate.verdicts import Tiers, pooled
from tokprof.measure.apart import Place, measure_apart
from tokprof.recipe import Cell, Measurement
from tokprof.record import RunRecord

Measure = Callable[[Sequence[Cell], Place | None], list[RunRecord]]

# Counts do not get truer by repeating them
COUNTING_ONLY: dict[str, Any] = {"rounds": 2, "warmup_rounds": 1, "parity": False}
ALWAYS: dict[str, Any] = {"activity": True, "memory": True, "isolate": False, "accuracy": 0, "energy": False}


def adapted(cells: Sequence[Cell], tier: Tiers, *, device: str | None = None, **wanted: Any) -> list[Cell]:
    """The same questions, with as many rounds as the tier needs, or as `wanted` (rounds, timeout …) says."""
    changes = {**ALWAYS, **(COUNTING_ONLY if tier == 1 else {})}
    changes |= {name: value for name, value in wanted.items() if value is not None}
    return [
        cell.model_copy(
            update={
                "measurement": Measurement(**{**cell.measurement.model_dump(), **changes}),
                "setting": cell.setting.model_copy(update={"device": device} if device else {}),
            }
        )
        for cell in cells
    ]


def side_by_side(
    cells: Sequence[Cell], base: Place, head: Place, measure: Measure = measure_apart
) -> tuple[list[RunRecord], list[RunRecord]]:
    """Base, head, head, base: whatever the machine does slowly is shared by both."""
    runs: dict[str, list[list[RunRecord]]] = {"base": [], "head": []}
    for side in ("base", "head", "head", "base"):
        runs[side].append(measure(cells, base if side == "base" else head))
    return pooled(runs["base"]), pooled(runs["head"])
