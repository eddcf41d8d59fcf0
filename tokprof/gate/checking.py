"""A check from end to end: measure, judge, and look a second time before crying wolf."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokprof.gate.calibration import RUNS, Calibration, calibrated
from tokprof.gate.measuring import Measure, side_by_side
from tokprof.gate.outcome import Outcome, confirmed
from tokprof.gate.verdicts import Tiers, verdict
from tokprof.measure.apart import Place, measure_apart
from tokprof.recipe import Cell
from tokprof.record import RunRecord

Say = Callable[[str], None]


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
) -> Outcome:
    """Both are measured now, in turns where times count."""

    def look() -> Outcome:
        if tier == 2:
            return verdict(*side_by_side(cells, base, head, measure), tier, calibration, same_job=True)
        return verdict(measure(cells, base), measure(cells, head), tier, calibration)

    return _twice(look, say)


def calibrate(cells: Sequence[Cell], say: Say, runs: int = RUNS, measure: Measure = measure_apart) -> Calibration:
    """The same code several times over: what differs is the machine's noise."""
    found = []
    for done in range(runs):
        say(f"run {done + 1} of {runs}")
        found.append(measure(cells, None))
    return calibrated(found)


def _twice(look: Callable[[], Outcome], say: Say) -> Outcome:
    say("measuring")
    first = look()
    if not first.wants_second_look:
        return first
    say(f"{first.answer} at first: measuring once more")
    return confirmed(first, look())
