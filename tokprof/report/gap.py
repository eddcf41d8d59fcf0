"""Why a speed-up is smaller than the FLOPs ratio: the gap as a sum of named terms. No torch.

The reference is the time the dense request would take if all of it shrank with the FLOPs:
T_dense · F_policy / F_dense. What a policy really takes beyond that is lost time. Stage by stage,
lost = P − r·D (P and D: the stage under the policy and dense, r: the FLOPs ratio of the whole), and with
the stage's own FLOPs ratio r_s it falls apart into
    (r_s − r)·D    the stage's FLOPs do not shrink as the whole does (fixed work, decode), and
    P − r_s·D      the stage is slower than its FLOPs say (launches, utilisation, or the remainder).
So the terms sum to the lost time exactly, and the lost time is the gap in other units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tokprof import units
from tokprof.measure.stats import median
from tokprof.record import Arm, RunRecord
from tokprof.report import derived

LAUNCH_BOUND = 0.9  # submit time, as a share of device time, from which a stage waits for the host
NOTABLE_WIN = 1.05
STAGES = ("vision", "project", "select", "prefill", "decode")
TOGETHER = {"first_decode": "decode", "compress": "prefill"}
PART_OF_STAGE = {"vision": "vision", "project": "projector", "select": "selection"}


@dataclass(frozen=True)
class Term:
    name: str
    lost_ms: float  # negative: time won back
    meaning: str


@dataclass(frozen=True)
class Decomposition:
    flops_ratio: float
    dense_ms: float
    policy_ms: float
    terms: tuple[Term, ...]  # the last one is the remainder

    @property
    def speedup(self) -> float:
        return self.dense_ms / self.policy_ms

    @property
    def lost_ms(self) -> float:
        return self.policy_ms - self.dense_ms / self.flops_ratio

    @property
    def gap(self) -> float:
        return self.flops_ratio - self.speedup

    def in_ratio(self, term: Term) -> float:
        """A term as its part of the gap between the two ratios."""
        return term.lost_ms * self.flops_ratio * self.speedup / self.dense_ms


def stage_flops(arm: Arm, new_tokens: int) -> dict[str, float]:
    """Exact FLOPs by stage; each evaluation of the head belongs to the stage that makes it."""
    parts: Mapping[str, int] = arm.flops.get("exact", {})
    head = parts.get("head", 0) / new_tokens  # one position after prefill and one per further token
    stages = {stage: float(parts.get(part, 0)) for stage, part in PART_OF_STAGE.items()}
    return {
        **stages,
        "prefill": parts.get("prefill", 0) + head,
        "decode": parts.get("decode", 0) + head * (new_tokens - 1),
    }


def stage_times(arm: Arm, *, submit: bool = False) -> dict[str, float]:
    """Median milliseconds by stage; both kinds of decode step, and both passes of prefill, together."""
    times = dict.fromkeys(STAGES, 0.0)
    for stage, samples in arm.samples.stages.items():
        values = samples.submit_ms if submit else samples.elapsed_ms
        place = TOGETHER.get(stage, stage)
        if values and place in times:
            times[place] += median(values)
    return times


def launch_bound(record: RunRecord, arm: Arm) -> dict[str, bool]:
    """Stages in which the device waits for the host to queue work; a CPU does what it queues."""
    if record.environment.device.kind == "cpu":
        return dict.fromkeys(stage_times(arm), False)
    submit = stage_times(arm, submit=True)
    return {stage: 0 < LAUNCH_BOUND * time <= submit[stage] for stage, time in stage_times(arm).items()}


def decompose(record: RunRecord) -> Decomposition | None:
    """None where the record has no times or no FLOPs."""
    whole = derived.flops_ratio(record, record.policy)
    dense_ms, policy_ms = derived.total_ms(record.baseline), derived.total_ms(record.policy)
    if not whole or not dense_ms or not policy_ms:
        return None
    dense, policy = _shares(record.baseline, dense_ms), _shares(record.policy, policy_ms)
    own = _stage_ratios(record)
    mix = {stage: (own[stage] - 1 / whole) * dense[stage] for stage in dense}
    slower = {stage: policy[stage] - own[stage] * dense[stage] for stage in dense}
    bound = launch_bound(record, record.policy)
    launches = sum(max(slower[stage], 0.0) for stage in ("prefill", "decode") if bound[stage])
    utilisation = 0.0 if bound["prefill"] and slower["prefill"] > 0 else slower["prefill"]
    tokens = record.inputs.new_tokens
    terms = [
        Term("vision tower, projector", mix["vision"] + mix["project"], "work that stays whatever is pruned behind it"),
        Term("selection", policy["select"] - dense["select"] / whole, "the time of deciding which tokens stay"),
        Term(
            "decode",
            mix["decode"],
            f"{units.counted(tokens, 'new token')}: a step costs nearly the same with a shorter cache",
        ),
        Term("prefill", mix["prefill"], "its FLOPs shrink more than those of the whole (negative), or less"),
        Term("launch-bound", launches, "the host cannot queue work faster, however few tokens there are"),
        Term("utilisation", utilisation, "prefill runs at fewer FLOP/s (negative: at more) on fewer tokens"),
    ]
    lost = policy_ms - dense_ms / whole
    rest = lost - sum(term.lost_ms for term in terms)
    terms.append(Term("remainder", rest, "vision, projector and decode slower than by their FLOPs (negative: faster)"))
    return Decomposition(whole, dense_ms, policy_ms, tuple(terms))


def _shares(arm: Arm, total_ms: float) -> dict[str, float]:
    """Stage times that sum to the request's: medians do not add up by themselves."""
    times = stage_times(arm)
    together = sum(times.values())
    return {stage: time * total_ms / together for stage, time in times.items()}


def _stage_ratios(record: RunRecord) -> dict[str, float]:
    """FLOPs of each stage under the policy, as a share of the dense ones; 1 where there are none."""
    dense = stage_flops(record.baseline, record.inputs.new_tokens)
    policy = stage_flops(record.policy, record.inputs.new_tokens)
    ratios = {stage: policy[stage] / dense[stage] if dense[stage] else 1.0 for stage in dense}
    ratios["select"] = 0.0  # whatever deciding costs is its own term
    return ratios


def ceiling(record: RunRecord, new_tokens: int | None = None) -> float | None:
    """The speed-up of a pruner whose selection, projection, prefill and visual cache cost nothing at all.

    What is left is the vision tower and decoding, the latter on a cache of text only where the record
    tells the bytes of both.
    """
    tokens = new_tokens or record.inputs.new_tokens
    whole = derived.request_ms_at(record, record.baseline, tokens)
    if whole is None:
        return None
    step = derived.step_ms(record, record.baseline) or 0.0
    left = stage_times(record.baseline)["vision"] + (tokens - 1) * step * _text_only_step(record)
    return whole / left if left else None


def _text_only_step(record: RunRecord) -> float:
    """Bytes a decode step moves without visual tokens in the cache, as a share of those with all of them."""
    arm = record.baseline
    moved = arm.bytes_moved.get("first_decode")
    if not moved or arm.memory is None:
        return 1.0
    visual = arm.tokens.original / (arm.tokens.original + arm.tokens.text)
    return max(1 - arm.memory.kv_bytes * visual / moved, 0.0)


@dataclass(frozen=True)
class OutputRange:
    """Output lengths at which a policy wins: from `first` to `last` tokens; None: without end."""

    first: int
    last: int | None
    notable: int | None  # the longest output with a win of 5 %; None: at every length
    wins: bool = True


def winning_outputs(record: RunRecord) -> OutputRange | None:
    """From the measured first token and decode step of both sides."""
    firsts = [derived.first_token_ms(arm) for arm in (record.baseline, record.policy)]
    if firsts[0] is None or firsts[1] is None:
        return None
    steps = [derived.step_ms(record, arm) or 0.0 for arm in (record.baseline, record.policy)]
    saved, per_step = firsts[0] - firsts[1], steps[0] - steps[1]
    notable = _crossing(firsts[0] - NOTABLE_WIN * firsts[1], steps[0] - NOTABLE_WIN * steps[1])
    if saved > 0:
        return OutputRange(1, _crossing(saved, per_step), notable)
    if per_step > 0:
        return OutputRange(2 + int(-saved / per_step), None, notable)
    return OutputRange(0, 0, 0, wins=False)


def _crossing(at_first: float, per_step: float) -> int | None:
    """The last output length up to which a lead lasts: 0 not even one token, None forever."""
    if at_first <= 0:
        return 0
    return None if per_step >= 0 else 1 + int(at_first / -per_step)


def fewest_visual_tokens(record: RunRecord) -> int | None:
    """The smallest prompt, in visual tokens, at which the policy would still win; None: not even at this one.

    An estimate: prefill in proportion to the tokens it processes, but never below the time to queue
    it; selection, vision and decode as measured here.
    """
    original = record.inputs.visual
    if _lead_ms(record, original) <= 0:
        return None
    low, high = 0, original  # no win at `low`, a win at `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _lead_ms(record, middle) > 0 else (middle, high)
    return high


def _lead_ms(record: RunRecord, visual: int) -> float:
    """Time saved at another number of visual tokens."""
    return _request_ms(record, record.baseline, visual) - _request_ms(record, record.policy, visual)


def _request_ms(record: RunRecord, arm: Arm, visual: int) -> float:
    times, tokens = stage_times(arm), arm.tokens
    processed = (tokens.text + tokens.layer_mean * visual / record.inputs.visual) / (tokens.text + tokens.layer_mean)
    floor = stage_times(arm, submit=True)["prefill"] if record.environment.device.kind == "cuda" else 0.0
    prefill = max(times["prefill"] * processed, min(floor, times["prefill"]))
    return sum(times.values()) - times["prefill"] + prefill
