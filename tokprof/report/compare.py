"""Two results of the same question, metric by metric: what changed, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tokprof import units
from tokprof.measure.stats import Interval, drift, median, usable
from tokprof.measure.verdict import Change, judge
from tokprof.record import PREFILL_STAGES, REQUEST_STAGES, Arm, RunRecord
from tokprof.report.comparable import Difference, differences, label

Verdict = Literal["SAME", "FAST", "SLOW", "AMBIGUOUS", "LESS", "MORE"]

OTHER_CLOCK = 0.05  # a device that ran so much faster or slower is as good as another one

VERDICTS: dict[Change, Verdict] = {"same": "SAME", "faster": "FAST", "slower": "SLOW", "ambiguous": "AMBIGUOUS"}


@dataclass(frozen=True)
class Line:
    metric: str
    before: str
    after: str
    ratio: float | None  # after ÷ before
    interval: Interval | None
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    label: str
    differs: tuple[Difference, ...]  # not empty: incomparable, unless forced
    lines: tuple[Line, ...]
    remarks: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The worst thing to be said of the whole request."""
        if not self.lines:
            return "INCOMPARABLE"
        return next((line.verdict for line in self.lines if line.metric == "request"), "AMBIGUOUS")


def compare(before: RunRecord, after: RunRecord, *, force: bool = False) -> Comparison:
    """Times from unlike machines or settings are not set beside each other, unless forced."""
    differs = differences(before, after)
    name = label(after)
    if differs and not force:
        return Comparison(name, differs, ())
    unclear = doubts(before, after)
    lines = (*_time_lines(before, after, ambiguous=bool(unclear)), *_count_lines(before, after))
    return Comparison(name, differs, lines, unclear)


def doubts(before: RunRecord, after: RunRecord) -> tuple[str, ...]:
    """Why no time of these two can be judged: drift within one, or clocks that differ between them."""
    found = (drift_remark("before", before), drift_remark("after", after), clock_remark(before, after))
    return tuple(remark for remark in found if remark)


def clock_remark(before: RunRecord, after: RunRecord) -> str | None:
    first, second = (record.environment.rounds_state.get("sm_clock_mhz", ()) for record in (before, after))
    if not usable(first) or not usable(second):
        return None
    old, new = median(first), median(second)
    if max(old, new) / min(old, new) - 1 <= OTHER_CLOCK:
        return None
    return f"the device ran at {old:.0f} MHz before and at {new:.0f} MHz after, so times are ambiguous"


def drift_remark(which: str, record: RunRecord) -> str | None:
    """Said where the dense model drifted too far during a record for its times to be judged."""
    moved = drift(record.baseline.samples.total_ms(), record.baseline_again_ms)
    if moved.verdict != "ambiguous":
        return None
    change = units.signed(moved.ratio - 1, units.share)
    return f"{which}: the dense model drifted by {change} while this was measured, so times are ambiguous"


def relative_times(record: RunRecord) -> list[float]:
    """Per round, the policy's request over the dense one beside it: most of a machine's mood cancels."""
    dense, policy = record.baseline.samples.total_ms(), record.policy.samples.total_ms()
    if not usable(dense) or not usable(policy):
        return []
    return [ours / theirs for ours, theirs in zip(policy, dense, strict=False)]


def stage_times(arm: Arm, stages: Sequence[str]) -> list[float]:
    """Per round; nothing where none of the stages was measured."""
    return arm.samples.total_ms(stages)


Series = tuple[str, Callable[[RunRecord], list[float]], Callable[[float], str]]


def time_series(before: RunRecord, after: RunRecord) -> Iterator[Series]:
    """What has raw samples on both sides: (metric, samples per round, how to print one)."""
    yield "request", lambda record: record.policy.samples.total_ms(), units.milliseconds
    yield "request ÷ dense", relative_times, units.number
    yield "dense request", lambda record: record.baseline.samples.total_ms(), units.milliseconds
    yield "first token", lambda record: stage_times(record.policy, PREFILL_STAGES), units.milliseconds
    for stage in REQUEST_STAGES:
        if stage in before.policy.samples.stages and stage in after.policy.samples.stages:
            yield stage, _of_stage(stage), units.milliseconds


def _of_stage(stage: str) -> Callable[[RunRecord], list[float]]:
    return lambda record: stage_times(record.policy, (stage,))


def _time_lines(before: RunRecord, after: RunRecord, *, ambiguous: bool) -> Iterator[Line]:
    for metric, read, show in time_series(before, after):
        first, second = read(before), read(after)
        if not usable(first) or not usable(second):
            continue
        found = judge(first, second)
        verdict = "AMBIGUOUS" if ambiguous else VERDICTS[found.change]
        ratio = found.slowdown.ratio if found.slowdown else None
        yield Line(metric, show(median(first)), show(median(second)), ratio, found.slowdown, verdict)


def _count_lines(before: RunRecord, after: RunRecord) -> Iterator[Line]:
    for metric, read, show in COUNTS:
        first, second = read(before), read(after)
        if first is None or second is None:
            continue
        verdict: Verdict = "SAME" if first == second else "LESS" if second < first else "MORE"
        ratio = second / first if first else None
        yield Line(metric, show(first), show(second), ratio, None, verdict)


def _flops(record: RunRecord) -> float | None:
    parts = record.policy.flops.get("exact")
    return sum(parts.values()) if parts else None


def _peak(record: RunRecord) -> float | None:
    memory = record.policy.memory
    return memory.peak_allocated_bytes if memory and memory.source == "cuda" else None


COUNTS: tuple[tuple[str, Callable[[RunRecord], float | None], Callable[[float | None], str]], ...] = (
    ("mean tokens", lambda record: record.policy.tokens.layer_mean, units.count),
    ("FLOPs", _flops, units.operations),
    ("KV cache", lambda record: record.policy.memory.kv_bytes if record.policy.memory else None, units.bytes_),
    ("peak memory", _peak, units.bytes_),
    ("host syncs", lambda record: _activity(record, "host_syncs"), units.count),
    ("launches", lambda record: _activity(record, "kernel_launches"), units.count),
)


def _activity(record: RunRecord, kind: Literal["host_syncs", "kernel_launches"]) -> float | None:
    found = record.policy.activity
    return None if found is None else sum(getattr(found, kind).values())
