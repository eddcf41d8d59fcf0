"""Whether times have changed: four answers, and "same" has to be earned like "slower".

Slower needs all of: a gap over the threshold, ranges from the fastest rounds to the upper quartile that
do not touch, and ranks that chance explains less than 2 times in 1000. (Fastest rounds: the 5 % quantile.
With the very fastest, one lucky round among many hides a regression.) Same needs a gap within the
threshold and an interval that rules out a change of 5 %. Whatever is neither is ambiguous: noise hides
the answer. A gate asks for more before it lets pass: see `rules_out_slowdown`.

Times measured in turns are judged by their neighbours: the median of the pairs' ratios is the gap, nine
pairs in ten have to agree, and chance is that of the sign test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tokprof.measure.stats import Interval, mann_whitney_p, quantile, ratio_interval, relative_noise, sign_p, usable

Change = Literal["same", "faster", "slower", "ambiguous"]

LEAST_THRESHOLD = 0.01
RULED_OUT = 0.05  # "same" says that a change of this size would have been seen
CHANCE = 0.002
FASTEST = 0.05  # quantile
AGREE = 0.9  # of the pairs
DEVIATIONS = 3.0
SURE = DEVIATIONS / 1.96  # times the 95 % interval
OF_A_MEDIAN = math.sqrt(math.pi / 2)  # its standard deviation, over that of a mean of normal values


@dataclass(frozen=True)
class Judgement:
    change: Change
    slowdown: Interval | None = None  # after ÷ before; None where there is nothing to compare
    p: float = 1.0
    threshold: float = LEAST_THRESHOLD
    scatter: float = 0.0  # one standard deviation of the ratio, as the noise of the rounds has it

    def if_machine_were_as_it_was(self, reference: float) -> Judgement:
        """`reference`: after ÷ before of what did not change. A machine that became faster hides a slowdown; one that
        became slower is no excuse."""
        if self.slowdown is None or reference * (1 + LEAST_THRESHOLD) >= 1:
            return self
        found = self.slowdown
        scaled = Interval(found.low / reference, found.ratio / reference, found.high / reference)
        return replace(self, change="faster" if scaled.ratio <= 1 else "same", slowdown=scaled)

    @property
    def passes(self) -> bool:
        """Faster, or a slowdown of 5 % would have been seen."""
        return self.change == "faster" or (self.change != "slower" and self.rules_out_slowdown)

    @property
    def rules_out_slowdown(self) -> bool:
        """Whether a slowdown of 5 % would have been seen: neither what rounds scatter (three deviations of
        the medians) nor what two runs of the same code may differ by (the threshold) could have hidden it."""
        if self.slowdown is None:
            return False
        ratio, high = self.slowdown.ratio, self.slowdown.high
        by_rounds = ratio * max((high / ratio) ** SURE, 1 + DEVIATIONS * self.scatter)
        by_runs = ratio * (1 + self.threshold)
        return ratio <= 1 + self.threshold and max(by_rounds, by_runs) <= 1 + RULED_OUT


def judge(
    before: Sequence[float], after: Sequence[float], *, threshold: float = LEAST_THRESHOLD, seed: int = 0
) -> Judgement:
    """Of two sets of times that were not measured in pairs."""
    if not usable(before) or not usable(after):
        return Judgement("ambiguous", threshold=threshold)
    slowdown = ratio_interval(after, before, seed, paired=False)
    p = mann_whitney_p(before, after)
    (low, high), (low_after, high_after) = _range(before), _range(after)
    apart = high < low_after or high_after < low
    scatter = math.hypot(_scatter(before), _scatter(after))
    return Judgement(_change(slowdown, threshold, sure=apart and p < CHANCE), slowdown, p, threshold, scatter)


def judge_in_turns(
    before: Sequence[float], after: Sequence[float], *, threshold: float = LEAST_THRESHOLD, seed: int = 0
) -> Judgement:
    """Of two sets of times, each measured beside its neighbour in the other: what befell both cancels."""
    if not usable(before) or not usable(after):
        return Judgement("ambiguous", threshold=threshold)
    ratios = [second / first for first, second in zip(before, after, strict=False)]
    slowdown = ratio_interval(ratios, [1.0] * len(ratios), seed)
    slower, faster = sum(ratio > 1 for ratio in ratios), sum(ratio < 1 for ratio in ratios)
    p = sign_p(slower, faster)
    agreed = max(slower, faster) >= AGREE * len(ratios)
    return Judgement(_change(slowdown, threshold, sure=agreed and p < CHANCE), slowdown, p, threshold, _scatter(ratios))


def _scatter(samples: Sequence[float]) -> float:
    """One standard deviation of the median. Beside the bootstrap's interval, which is narrow where a few rounds lie
    close to the middle by luck."""
    return OF_A_MEDIAN * relative_noise(samples) / math.sqrt(len(samples))


def _change(slowdown: Interval, threshold: float, *, sure: bool) -> Change:
    gap = max(slowdown.ratio, 1 / slowdown.ratio) - 1
    if gap > threshold:
        if sure:
            return "slower" if slowdown.ratio > 1 else "faster"
        return "ambiguous"
    within = slowdown.low >= 1 / (1 + RULED_OUT) and slowdown.high <= 1 + RULED_OUT
    return "same" if within else "ambiguous"


def _range(samples: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(samples)
    return quantile(ordered, FASTEST), quantile(ordered, 0.75)
