"""Tier 2: times of the same device and setting, each metric with its own threshold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from tokprof.gate.calibration import IN_TURNS, Calibration
from tokprof.gate.outcome import Answer, Finding, Outcome
from tokprof.measure.stats import median, usable
from tokprof.measure.verdict import LEAST_THRESHOLD, Judgement, judge, judge_in_turns
from tokprof.record import REQUEST_STAGES, Arm, RunRecord
from tokprof.report.comparable import MACHINE, differences, identity, label
from tokprof.report.compare import clock_remark, doubts, time_series

Measured = Literal[
    "apart", "in one job", "in turns"
]  # the two sides: the machine may have changed between them, or not

# The gap that counts where nobody knows how far two runs of the same code are apart. One after the other, they may be
# that far apart whatever a calibration of minutes says.
UNCALIBRATED = 0.03
STANDARD_DEVIATIONS = 3.0  # of an A/A calibration, that a gap has to exceed
WORTH_GATING = 0.05  # share of the request below which a stage is not judged alone
DENSE, RELATIVE = "dense request", "request ÷ dense"
SHARED = "the unpruned model may be slower as well: the machine, or code that both run; --against-ref tells"
FASTER = (
    "the unpruned model is faster than it was, and this is not by as much: --against-ref tells, or renew the baseline"
)
LEAST_SAMPLES, LEAST_PAIRS = 8, 10  # per side, in turns: fewer cannot show anything at p < 0.002


def times_outcome(
    before: RunRecord, after: RunRecord, calibration: Calibration | None = None, measured: Measured = "apart"
) -> Outcome:
    """Findings for the request, its share of the dense one beside it, and every stage that matters."""
    name = label(after)
    differs = differences(before, after, MACHINE)
    if differs:
        fields = "; ".join(str(difference) for difference in differs)
        return Outcome((Finding(2, name, "times", "incomparable", detail=fields),))
    known = (calibration or {}).get(after.environment.device.name, {}).get(identity(after), {})
    in_turns = measured == "in turns"
    suffix = IN_TURNS if in_turns else ""
    # Where rounds take turns, both sides have drifted alike
    doubtful = (clock_remark(before, after) or "") if in_turns else "; ".join(doubts(before, after))
    findings = []
    dense_moved = _moved(*(record.baseline.samples.total_ms() for record in (before, after)))
    for metric, read, show in time_series(before, after):
        first, second = read(before), read(after)
        if metric in REQUEST_STAGES and not _matters(metric, before.policy, after.policy):
            continue
        threshold = threshold_of(known.get(metric + suffix), measured)
        judged = (judge_in_turns if in_turns else judge)(first, second, threshold=threshold)
        moved = 1.0 if metric in (DENSE, RELATIVE) or measured != "apart" else dense_moved
        samples, least = min(len(first), len(second)), LEAST_PAIRS if in_turns else LEAST_SAMPLES
        few = f"only {samples} rounds; at least {least} are needed" if samples < least else ""
        answer, detail = _answer(judged, moved, few or doubtful)
        findings.append(Finding(2, name, metric, answer, _median(first, show), _median(second, show), detail))
    return Outcome(tuple(_shared_with_dense(findings) if measured == "apart" else findings))


def _shared_with_dense(findings: list[Finding]) -> list[Finding]:
    """Where the unpruned model, measured in turns with the policy, is not as fast as it was, and the ratio of both is
    not worse, the reason is the machine or code which both run: a baseline of another time cannot tell."""
    answers = {finding.metric: finding.answer for finding in findings}
    if answers[DENSE] == "pass" or answers[RELATIVE] == "regressed":
        return findings
    return [
        replace(finding, answer="ambiguous", detail=f"{finding.detail}; {SHARED}")
        if finding.answer == "regressed"
        else finding
        for finding in findings
    ]


def threshold_of(deviation: float | None, measured: Measured) -> float:
    """The gap that counts on a machine whose runs of the same code differ by this much."""
    if deviation is None:
        return UNCALIBRATED
    return max(LEAST_THRESHOLD if measured == "in turns" else UNCALIBRATED, STANDARD_DEVIATIONS * deviation)


def _moved(before: list[float], after: list[float]) -> float:
    return median(after) / median(before) if usable(before) and usable(after) else 1.0


def _answer(judged: Judgement, dense_moved: float, doubtful: str) -> tuple[Answer, str]:
    detail = _detail(judged)
    if judged.slowdown is None:
        return "ambiguous", "no usable samples"
    if doubtful:
        return "ambiguous", doubtful
    if judged.change == "slower":
        return "regressed", detail
    if not judged.passes:
        return "ambiguous", detail
    if not judged.if_machine_were_as_it_was(dense_moved).passes:
        return "ambiguous", f"{detail}; {FASTER}"
    return "pass", detail


def _detail(judged: Judgement) -> str:
    if judged.slowdown is None:
        return ""
    found = judged.slowdown
    return (
        f"{found.ratio - 1:+.1%} [{found.low - 1:+.1%}, {found.high - 1:+.1%}], p {judged.p:.2g}, "
        f"threshold {judged.threshold:.1%}"
    )


def _matters(stage: str, before: Arm, after: Arm) -> bool:
    """A stage too short to be timed well is judged as part of the request."""
    for arm in (before, after):
        request, part = arm.samples.total_ms(), arm.samples.stages[stage].elapsed_ms
        if usable(request) and usable(part) and median(part) >= WORTH_GATING * median(request):
            return True
    return False


def _median(samples: list[float], show: Callable[[float], str]) -> str:
    return show(median(samples)) if samples else "none"
