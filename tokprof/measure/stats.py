"""The statistics behind every printed time: pure functions over samples, no torch, no numpy.

All of them take finite numbers and at least one; whoever reads samples from outside checks that first
with `usable`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

RESAMPLES = 1000
CONFIDENCE = 0.95
RESAMPLE_UP_TO = 400  # pairs; beyond, a resampled median is drawn by its place among the samples
DRIFT_WARNS = 0.01
DRIFT_AMBIGUOUS = 0.03
OUTLIER_FENCE = 3.0  # interquartile ranges beyond the quartiles: Tukey's "far out"
LEAST_TIME, MOST_TIME = 1e-12, 1e18  # beyond, in whatever unit, a number is not a time
NORMAL_IQR = 1.349  # interquartile range of a normal distribution, in standard deviations


@dataclass(frozen=True)
class Interval:
    """A ratio with its 95 % interval."""

    low: float
    ratio: float
    high: float

    @property
    def contains_one(self) -> bool:
        return self.low <= 1.0 <= self.high

    @property
    def half_width(self) -> float:
        """Relative to the ratio."""
        return (self.high - self.low) / 2 / self.ratio


@dataclass(frozen=True)
class Summary:
    count: int
    median: float
    low_quartile: float
    high_quartile: float
    least: float
    p90: float
    noise: float
    outliers: tuple[int, ...]  # their places among the samples; they stay in every figure


@dataclass(frozen=True)
class Drift:
    """How far the baseline, timed again after everything else, has moved."""

    ratio: float
    verdict: Literal["steady", "drifting", "ambiguous"]


def usable(samples: Sequence[float]) -> bool:
    """Whether statistics over these times mean anything."""
    return bool(samples) and all(LEAST_TIME < value < MOST_TIME for value in samples)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between the neighbours, of values in ascending order."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    step = ordered[above] - ordered[below]
    return ordered[below] + (place - below) * step if step else ordered[below]


def median(samples: Sequence[float]) -> float:
    return quantile(sorted(samples), 0.5)


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(samples)
    return quantile(ordered, 0.25), quantile(ordered, 0.75)


def p90(samples: Sequence[float]) -> float:
    return quantile(sorted(samples), 0.9)


def relative_noise(samples: Sequence[float]) -> float:
    """A standard deviation, taken from the quartiles so that outliers do not count, over the median."""
    ordered = sorted(samples)
    spread = quantile(ordered, 0.75) - quantile(ordered, 0.25)
    middle = quantile(ordered, 0.5)
    return spread / NORMAL_IQR / middle if middle else 0.0


def outliers(samples: Sequence[float]) -> tuple[int, ...]:
    low, high = quartiles(samples)
    reach = OUTLIER_FENCE * (high - low)
    return tuple(place for place, value in enumerate(samples) if not low - reach <= value <= high + reach)


def summarize(samples: Sequence[float]) -> Summary:
    ordered = sorted(samples)
    return Summary(
        count=len(ordered),
        median=quantile(ordered, 0.5),
        low_quartile=quantile(ordered, 0.25),
        high_quartile=quantile(ordered, 0.75),
        least=ordered[0],
        p90=quantile(ordered, 0.9),
        noise=relative_noise(ordered),
        outliers=outliers(samples),
    )


def ratio_interval(
    baseline: Sequence[float], policy: Sequence[float], seed: int = 0, *, paired: bool = True
) -> Interval:
    """Speed-up: median of the baseline over median of the policy, with its bootstrap interval.

    `paired`: round i of both was measured side by side and is resampled together, so that what
    slowed both cancels. Samples of different runs, or of unequal number, are resampled apart.
    """
    draw = random.Random(seed)
    ratio = median(baseline) / median(policy)
    if not paired or len(baseline) != len(policy):
        ratios = _ratios_by_place(baseline, policy, 0.0, draw)
    elif len(baseline) <= RESAMPLE_UP_TO:
        ratios = _ratios_of_pairs(baseline, policy, draw)
    else:
        ratios = _ratios_by_place(baseline, policy, _correlation(baseline, policy), draw)
    ratios.sort()
    tail = (1 - CONFIDENCE) / 2
    return Interval(min(quantile(ratios, tail), ratio), ratio, max(quantile(ratios, 1 - tail), ratio))


def _ratios_of_pairs(baseline: Sequence[float], policy: Sequence[float], draw: random.Random) -> list[float]:
    pairs = list(zip(baseline, policy, strict=True))
    ratios = []
    for _ in range(RESAMPLES):
        first, second = zip(*draw.choices(pairs, k=len(pairs)), strict=True)
        ratios.append(median(first) / median(second))
    return ratios


def _ratios_by_place(
    baseline: Sequence[float], policy: Sequence[float], correlation: float, draw: random.Random
) -> list[float]:
    """Without resampling: the median of a resample is one of the samples in order, at a place that is
    normal about the middle with deviation √n/2. Drawing the place gives the same ratios, ten times as fast."""
    first, second = sorted(baseline), sorted(policy)
    rest = math.sqrt(max(0.0, 1 - correlation**2))
    ratios = []
    for _ in range(RESAMPLES):
        common, own = draw.gauss(0, 1), draw.gauss(0, 1)
        ratios.append(_near_middle(first, common) / _near_middle(second, correlation * common + rest * own))
    return ratios


def _correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Of the two places, where samples come in pairs: 4·P(both below their medians) − 1."""
    middle_first, middle_second = median(first), median(second)
    agree = sum((a < middle_first) == (b < middle_second) for a, b in zip(first, second, strict=True))
    return 2 * agree / len(first) - 1


def _near_middle(ordered: Sequence[float], deviations: float) -> float:
    share = 0.5 + deviations / 2 / math.sqrt(len(ordered))
    return quantile(ordered, min(max(share, 0.0), 1.0))


def describe(interval: Interval) -> str:
    """A speed-up for people: one that may be none is printed as "≈ 1"."""
    return "≈ 1" if interval.contains_one else f"{interval.ratio:.2f}×"


def mann_whitney_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided probability that two equal distributions differ in rank this much.

    Normal approximation with corrections for ties and continuity: conservative for a few samples.
    """
    ranked = sorted([(value, 0) for value in first] + [(value, 1) for value in second])
    rank_sum, ties, place = 0.0, 0.0, 0
    while place < len(ranked):
        end = place
        while end < len(ranked) and ranked[end][0] == ranked[place][0]:
            end += 1
        equal = end - place
        rank_sum += (place + 1 + end) / 2 * sum(1 for _, side in ranked[place:end] if side == 0)
        ties += equal**3 - equal
        place = end
    count, other = len(first), len(second)
    total = count + other
    excess = abs(rank_sum - count * (count + 1) / 2 - count * other / 2) - 0.5
    variance = count * other / 12 * (total + 1 - ties / (total * (total - 1)))
    if excess <= 0 or variance <= 0:
        return 1.0
    return math.erfc(excess / math.sqrt(2 * variance))


def sign_p(more: int, less: int) -> float:
    """Two-sided probability that so many pairs agree on which is larger, where neither is. Ties are left out."""
    count = more + less
    outcomes = agreeing = 1  # out of 2 ** count; from all pairs agreeing to as many as here
    for differing in range(1, min(more, less) + 1):
        outcomes = outcomes * (count - differing + 1) // differing
        agreeing += outcomes
    return min(1.0, 2 * agreeing / (1 << count))


def drift(baseline: Sequence[float], again: Sequence[float], seed: int = 0) -> Drift:
    """Over 1 % is drifting, over 3 % makes comparisons ambiguous; what the noise explains is neither."""
    if not usable(baseline) or not usable(again):
        return Drift(1.0, "steady")
    moved = ratio_interval(again, baseline, seed, paired=False)
    distance = abs(moved.ratio - 1)
    if distance <= DRIFT_WARNS or moved.contains_one:
        return Drift(moved.ratio, "steady")
    return Drift(moved.ratio, "ambiguous" if distance > DRIFT_AMBIGUOUS else "drifting")
