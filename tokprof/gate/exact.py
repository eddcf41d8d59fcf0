"""Tier 1: counts that are the same on every machine, compared for equality.

Any difference fails, also a smaller count: whoever meant it renews the baseline, and the change is in
the history. What depends on the machine (bytes on the dtype, launches on the libraries) is compared only
where that is the same, and a note says so otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from tokprof.gate.outcome import Answer, Finding, Outcome
from tokprof.record import Arm, RunRecord
from tokprof.report.comparable import label

LIBRARIES = ("torch", "transformers")


def exact_outcome(before: RunRecord, after: RunRecord) -> Outcome:
    name, notes = label(after), _left_out(before, after)
    findings = []
    for side, first, second in (("dense", before.baseline, after.baseline), ("", before.policy, after.policy)):
        for metric, old, new in _counts(before, after, first, second):
            answer: Answer = "pass" if old == new else "regressed"
            shown = _shown(old, new), _shown(new, old)
            findings.append(Finding(1, name, f"{side} {metric}".strip(), answer, *shown))
    return Outcome(tuple(findings), tuple(f"{name}: {note}" for note in notes))


Count = tuple[str, object, object]


def _counts(before: RunRecord, after: RunRecord, first: Arm, second: Arm) -> Iterator[Count]:
    if _same_choice(before, after) or first.tokens.planned_least is None:
        yield "tokens per layer", first.tokens.per_layer, second.tokens.per_layer
        for convention, parts in first.flops.items():
            yield f"FLOPs ({convention})", parts, second.flops.get(convention)
    if first.memory and second.memory and before.model.dtype == after.model.dtype:
        yield "KV bytes", first.memory.kv_bytes, second.memory.kv_bytes
    if first.activity and second.activity:
        yield "host syncs", first.activity.host_syncs, second.activity.host_syncs
        if _same_libraries(before, after):
            yield "launches", first.activity.kernel_launches, second.activity.kernel_launches


def _same_choice(before: RunRecord, after: RunRecord) -> bool:
    """Whether data that decides is the same: pictures, weights and rounding."""
    return (before.inputs.sha256, before.model.weights, before.model.dtype) == (
        after.inputs.sha256,
        after.model.weights,
        after.model.dtype,
    )


def _same_libraries(before: RunRecord, after: RunRecord) -> bool:
    old, new = before.environment, after.environment
    same = all(old.libraries.get(name) == new.libraries.get(name) for name in LIBRARIES)
    return same and old.device.kind == new.device.kind


def _left_out(before: RunRecord, after: RunRecord) -> Iterator[str]:
    if before.model.dtype != after.model.dtype:
        yield f"KV bytes not compared ({before.model.dtype} → {after.model.dtype})"
    if not _same_libraries(before, after):
        yield "launches not compared (another kind of device, torch or transformers)"
    if before.policy.tokens.planned_least is not None and not _same_choice(before, after):
        yield "tokens not compared: data decides them, and pictures, weights or dtype differ"


def _shown(value: object, other: object) -> str:
    """Lists by their runs; parts by their sum, and those that differ."""
    if value is None:
        return "missing"
    if isinstance(value, dict):
        beside = other if isinstance(other, dict) else {}
        parts = ", ".join(f"{name} {count:,}" for name, count in value.items() if beside.get(name) != count)
        return f"{sum(value.values()):,}" + (f" ({parts})" if parts else "")
    if isinstance(value, tuple):
        runs = [(len(list(equal)), count) for count, equal in groupby(value)]
        return ", ".join(f"{times}×{count}" for times, count in runs)
    return f"{value:,}" if isinstance(value, int) else str(value)
