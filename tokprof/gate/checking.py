"""A check from end to end: measure, judge, and look a second time before crying wolf."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokprof.gate.calibration import RUNS, Calibration, calibrated
from tokprof.gate.measuring import InTurns, Measure, Say, Sides, in_turns, side_by_side
from tokprof.gate.outcome import Outcome, confirmed
from tokprof.gate.verdicts import Tiers, verdict
from tokprof.measure.apart import Place, measure_apart
from tokprof.recipe import Cell
from tokprof.record import RunRecord

Both = Callable[[Sequence[Cell], Place, Place, Say], Sides]


def against_file(
    before: Sequence[RunRecord],
    cells: Sequence[Cell],
    tier: Tiers,
    calibration: Calibration,
    say: Say,
    measure: Measure = measure_apart,
) -> Outcome:
    """The baseline is what was measured once; the head is measured now."""
    return _twice(lambda: verdict(before, measure(cells, None), tier, calibration), say)


def against_reference(
    cells: Sequence[Cell],
    base: Place,
    head: Place,
    tier: Tiers,
    calibration: Calibration,
    say: Say,
    measure: Measure = measure_apart,
    both: Both = side_by_side,
) -> Outcome:
    """Both are measured now, in turns where times count."""

    def look() -> Outcome:
        if tier == 2:
            sides = both(cells, base, head, say)
            return verdict(sides.base, sides.head, tier, calibration, sides.measured)
        return verdict(measure(cells, base), measure(cells, head), tier, calibration)

    return _twice(look, say)


def calibrate(
    cells: Sequence[Cell],
    say: Say,
    runs: int = RUNS,
    measure: Measure = measure_apart,
    turns: InTurns = in_turns,
) -> Calibration:
    """The same code several times over, and beside itself where that can be: what differs is the machine's noise."""
    alone: list[list[RunRecord]] = []
    beside: list[list[RunRecord]] = []
    for done in range(runs):
        say(f"run {done + 1} of {runs}")
        both = turns(cells, Place(), Place(), say) if len(beside) == done else None
        alone.append(both[0] if both else measure(cells, None))
        if both:
            beside.append(both[1])
    return calibrated(alone, beside if len(beside) == runs else ())


def _twice(look: Callable[[], Outcome], say: Say) -> Outcome:
    say("measuring")
    first = look()
    if not first.wants_second_look:
        return first
    say(f"{first.answer} at first: measuring once more")
    return confirmed(first, look())
