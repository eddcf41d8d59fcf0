"""Two sets of records → the gate's outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tokprof.gate.calibration import Calibration
from tokprof.gate.exact import exact_outcome
from tokprof.gate.outcome import Finding, Outcome, joined
from tokprof.gate.times import Measured, times_outcome
from tokprof.record import RunRecord, Samples, StageSamples
from tokprof.report.comparable import identity, label

Tiers = Literal[1, 2]


def verdict(
    before: Sequence[RunRecord],
    after: Sequence[RunRecord],
    tier: Tiers,
    calibration: Calibration | None = None,
    measured: Measured = "apart",
) -> Outcome:
    """Every cell of the baseline has to be there. Tier 2 includes tier 1."""
    found = {identity(record): record for record in after}
    outcomes = []
    for old in before:
        new = found.pop(identity(old), None)
        if new is None:
            missing = Finding(1, label(old), "record", "incomparable", "measured", "missing", "was not measured again")
            outcomes.append(Outcome((missing,)))
            continue
        outcomes.append(exact_outcome(old, new))
        if tier == 2:
            outcomes.append(times_outcome(old, new, calibration, measured))
    new_cells = Outcome((), tuple(f"{label(record)}: new, nothing to compare it with" for record in found.values()))
    return joined((*outcomes, new_cells))


def pooled(runs: Sequence[Sequence[RunRecord]]) -> list[RunRecord]:
    """Several measurements of the same cells as one, all rounds together; counts are those of the last."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        for record in run:
            groups.setdefault(identity(record), []).append(record)
    return [_pooled(group) for group in groups.values()]


def _pooled(records: Sequence[RunRecord]) -> RunRecord:
    last = records[-1]
    return last.model_copy(
        update={
            "baseline": last.baseline.model_copy(update={"samples": _samples([r.baseline.samples for r in records])}),
            "policy": last.policy.model_copy(update={"samples": _samples([r.policy.samples for r in records])}),
            "baseline_again_ms": tuple(ms for record in records for ms in record.baseline_again_ms),
            "warnings": tuple(dict.fromkeys(warning for record in records for warning in record.warnings)),
        }
    )


def _samples(parts: Sequence[Samples]) -> Samples:
    """Stages that every part has."""
    stages = [name for name in parts[-1].stages if all(name in part.stages for part in parts)]
    return parts[-1].model_copy(
        update={
            "stages": {
                name: StageSamples(
                    elapsed_ms=tuple(ms for part in parts for ms in part.stages[name].elapsed_ms),
                    submit_ms=tuple(ms for part in parts for ms in part.stages[name].submit_ms),
                )
                for name in stages
            },
            "set_aside": sum(part.set_aside for part in parts),
        }
    )
