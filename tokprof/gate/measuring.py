"""Which cells the gate measures, and how often, each time in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tokprof.errors import MachineError
from tokprof.gate.times import Measured
from tokprof.gate.verdicts import Tiers, pooled
from tokprof.measure.apart import CrashError, Place, can_take_turns, measure_apart, measure_in_turns
from tokprof.recipe import Cell, Measurement
from tokprof.record import RunRecord

Say = Callable[[str], None]
Measure = Callable[[Sequence[Cell], Place | None], list[RunRecord]]
InTurns = Callable[[Sequence[Cell], Place, Place, Say], tuple[list[RunRecord], list[RunRecord]] | None]

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


@dataclass(frozen=True)
class Sides:
    base: list[RunRecord]
    head: list[RunRecord]
    measured: Measured


def side_by_side(cells: Sequence[Cell], base: Place, head: Place, say: Say) -> Sides:
    """In turns; where that cannot be, one after the other, which the machine's mood disturbs more."""
    found = in_turns(cells, base, head, say)
    return Sides(*found, "in turns") if found else one_after_the_other(cells, base, head)


def in_turns(
    cells: Sequence[Cell], base: Place, head: Place, say: Say
) -> tuple[list[RunRecord], list[RunRecord]] | None:
    """Both at once, round by round; None where a checkout knows no turns, or the machine cannot hold two models."""
    if not can_take_turns(base, head):
        return None
    try:
        return measure_in_turns(cells, base, head)
    except MachineError as error:
        if isinstance(error, CrashError) and "out of memory" not in error.message.lower():
            raise
        say(f"not both at once: {error.message}")
        return None


def one_after_the_other(cells: Sequence[Cell], base: Place, head: Place, measure: Measure = measure_apart) -> Sides:
    """Base, head, head, base: whatever the machine does slowly is shared by both."""
    runs: dict[str, list[list[RunRecord]]] = {"base": [], "head": []}
    for side in ("base", "head", "head", "base"):
        runs[side].append(measure(cells, base if side == "base" else head))
    return Sides(pooled(runs["base"]), pooled(runs["head"]), "in one job")
