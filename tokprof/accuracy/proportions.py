"""Shares of right answers: their intervals, and whether two of them differ on the same questions. Pure Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist


def wilson(right: float, asked: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (J. Am. Stat. Assoc. 22, 1927).

    For answers that are partly right, `right` is the sum of their scores; the interval is then on the safe
    side, since no score between 0 and 1 scatters more than right and wrong do.
    """
    if not 0 <= right <= asked or asked < 1:
        raise ValueError(f"{right} right of {asked}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = right / asked, z * z / asked
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / asked + spread / (4 * asked)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(better: int, worse: int) -> float:
    """Exact two-sided p (Psychometrika 12, 1947): would a fair coin have split better and worse questions so?"""
    different = better + worse
    tail = sum(math.comb(different, count) for count in range(min(better, worse) + 1))
    return min(1.0, 2 * tail / (1 << different))


@dataclass(frozen=True)
class Paired:
    """One series of scores against another on the same questions."""

    difference: float  # of the means
    better: int  # questions that score higher than in the other series
    worse: int
    p: float


def paired(scores: Sequence[float], other: Sequence[float]) -> Paired:
    """With partly right answers the test is the sign test, which McNemar's is for right and wrong."""
    pairs = list(zip(scores, other, strict=True))
    better, worse = sum(mine > theirs for mine, theirs in pairs), sum(mine < theirs for mine, theirs in pairs)
    difference = math.fsum(mine - theirs for mine, theirs in pairs) / len(pairs)
    return Paired(difference, better, worse, mcnemar(better, worse))
