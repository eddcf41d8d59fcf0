"""Every number that reports show and records do not hold, derived in one place from the raw samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from tokprof import units
from tokprof.measure.stats import Interval, median, ratio_interval, usable
from tokprof.record import PREFILL_STAGES, REQUEST_STAGES, Arm, RunRecord

CONVENTION = "exact"


@dataclass(frozen=True)
class Side:
    """One row of a table: an arm, and the record it comes from."""

    record: RunRecord
    arm: Arm
    dense: bool

    @property
    def name(self) -> str:
        return self.arm.method

    @property
    def given(self) -> dict[str, object]:
        """The parameters that were asked for; where none were, the default budget. The arm has all of them.

        A default `keep` beside other parameters may be one that they overrule, so it is not shown.
        """
        if self.dense:
            return {}
        asked = self.record.cell.method.parameters
        scores = {"scores": "eager"} if self.record.cell.setting.scores == "eager" else {}
        return (dict(asked) or {name: value for name, value in self.arm.parameters.items() if name == "keep"}) | scores

    @property
    def budget(self) -> str:
        return ", ".join(f"{name}={_short(value)}" for name, value in self.given.items())

    @property
    def label(self) -> str:
        return f"{self.name} {self.budget}".strip()


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "/".join(_short(part) for part in value)
    return str(value)


def short_labels(rows: Sequence[Side]) -> list[str]:
    """Names, with only those parameters by which rows of the same method differ."""
    labels = []
    for row in rows:
        alike = [other.given for other in rows if other.name == row.name]
        telling = [
            f"{name}={_short(value)}"
            for name, value in row.given.items()
            if any(other.get(name) != value for other in alike)
        ]
        labels.append(" ".join([row.name, ", ".join(telling)]).strip())
    return labels


def sides(records: Sequence[RunRecord]) -> list[Side]:
    """The dense model first, then every policy. Every record has dense rounds of its own, which its speed-up is
    taken against; the dense row is that of the middle one, so that one lucky or unlucky moment is not shown for all."""
    if not records:
        return []
    by_time = sorted(records, key=lambda record: total_ms(record.baseline) or 0.0)
    middle = by_time[(len(records) - 1) // 2]
    rows = [Side(middle, middle.baseline, True)]
    rows += [Side(record, record.policy, False) for record in records if record.policy.method != "dense"]
    return rows


def dense_range_ms(records: Sequence[RunRecord]) -> tuple[float, float] | None:
    """The shortest and the longest dense request beside the methods."""
    times = [ms for record in records if (ms := total_ms(record.baseline))]
    return (min(times), max(times)) if times else None


def subject(record: RunRecord) -> tuple[object, ...]:
    """Records with equal subjects belong into one table: same model, machine, setting and inputs."""
    facts, inputs, device = record.model, record.inputs, record.environment.device
    return (
        facts.name, facts.weights, facts.dtype, facts.attention, device.kind, device.name,
        inputs.sha256, inputs.batch, inputs.new_tokens, inputs.visual, inputs.text,
    )  # fmt: skip


def by_subject(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """Records in groups of one table each, in order of appearance."""
    groups: dict[tuple[object, ...], list[RunRecord]] = {}
    for record in records:
        groups.setdefault(subject(record), []).append(record)
    return list(groups.values())


def stage_ms(arm: Arm, stage: str) -> float | None:
    samples = arm.samples.stages.get(stage)
    return median(samples.elapsed_ms) if samples and samples.elapsed_ms else None


def total_ms(arm: Arm, stages: Sequence[str] = REQUEST_STAGES) -> float | None:
    rounds = arm.samples.total_ms(stages)
    return median(rounds) if rounds else None


def first_token_ms(arm: Arm) -> float | None:
    """Pictures are pixels already: vision, projector, selection and prefill."""
    return total_ms(arm, PREFILL_STAGES)


def decode_steps(record: RunRecord) -> int:
    """Steps behind the `decode` samples: prefill gives the first token, the first step is kept apart."""
    return max(record.inputs.new_tokens - 2, 0)


def step_ms(record: RunRecord, arm: Arm) -> float | None:
    """Per generated token, once decoding is under way."""
    whole, steps = stage_ms(arm, "decode"), decode_steps(record)
    return whole / steps if whole is not None and steps else stage_ms(arm, "first_decode")


def request_ms_at(record: RunRecord, arm: Arm, new_tokens: int) -> float | None:
    """The request's time for another output length, from the measured first token and step."""
    first, step = first_token_ms(arm), step_ms(record, arm)
    if first is None or (step is None and new_tokens > 1):
        return None
    return first + (new_tokens - 1) * (step or 0.0)


def flops(arm: Arm, convention: str = CONVENTION) -> int | None:
    parts = arm.flops.get(convention)
    return sum(parts.values()) if parts else None


def flops_ratio(record: RunRecord, arm: Arm, convention: str = CONVENTION) -> float | None:
    """How many times fewer than the dense model."""
    whole, part = flops(record.baseline, convention), flops(arm, convention)
    return whole / part if whole and part else None


def speedup(record: RunRecord, stages: Sequence[str] = REQUEST_STAGES) -> Interval | None:
    """Dense over policy: medians over the rounds, with a paired-bootstrap 95 % interval."""
    dense, policy = record.baseline.samples.total_ms(stages), record.policy.samples.total_ms(stages)
    return _interval(tuple(dense), tuple(policy)) if usable(dense) and usable(policy) else None


@lru_cache(maxsize=4096)  # a thousand resamplings, asked for by every column and plot
def _interval(dense: tuple[float, ...], policy: tuple[float, ...]) -> Interval:
    return ratio_interval(dense, policy)


def interval_text(found: Interval) -> str:
    """“1.87× [1.85, 1.90]”, and “≈ 1 […]” where the interval leaves open which side is faster."""
    shown = "≈ 1" if found.contains_one else units.ratio(found.ratio)
    return f"{shown} [{found.low:.2f}, {found.high:.2f}]"


def requests_per_s(record: RunRecord, arm: Arm) -> float | None:
    time = total_ms(arm)
    return record.inputs.batch / (time / 1e3) if time else None


def tokens_per_s(record: RunRecord, arm: Arm, basis: Literal["original", "processed"]) -> float | None:
    """Prompt and answer tokens per second. Original: as if nothing had been dropped (comparable
    between policies). Processed: visual tokens counted by their mean over the layers (utilisation)."""
    rate = requests_per_s(record, arm)
    if rate is None:
        return None
    visual = arm.tokens.original if basis == "original" else arm.tokens.layer_mean
    return rate * (visual + arm.tokens.text + record.inputs.new_tokens)


def peak_bytes(arm: Arm) -> int | None:
    memory = arm.memory
    if memory is None:
        return None
    return memory.peak_allocated_bytes or max(memory.stage_peak_bytes.values(), default=None)


def accuracy(arm: Arm) -> float | None:
    """As a share, or in the task's own unit where only a score is known."""
    found = arm.accuracy
    if found is None:
        return None
    return found.correct / found.questions if found.correct is not None and found.questions else found.score
