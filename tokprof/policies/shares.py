"""A share of some tokens as a whole number, the way papers round."""

from __future__ import annotations

import math


def floored(share: float, count: int) -> int:
    """At least one and at most all; 0.29 of 100 is 29, whatever binary floating point thinks."""
    return min(max(1, math.floor(share * count + 1e-6)), max(count, 1))


def rounded(share: float, count: int) -> int:
    """To the nearest (halves up); at least one and at most all."""
    return min(max(1, math.floor(share * count + 0.5 + 1e-6)), max(count, 1))
