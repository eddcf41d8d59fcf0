"""Downsample: the same budget by showing the model a smaller picture, which spares its tower as well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from tokprof.policies.base import Need, Policy, Scene


@dataclass(frozen=True, kw_only=True)
class Downsample(Policy):
    """Pictures are shrunk before anything else happens; every token they then give is kept.

    `keep`: the share of the picture's area that is left, so both sides shrink by √keep
    (`image_scale`, which the engine asks before it prepares the request). How many tokens that gives is
    the model's affair: about keep·N at native resolution, steps of whole tiles where pictures are cut
    into tiles. Plans are about the scene of the smaller picture. A model that resizes every picture to
    one square (LLaVA-1.5) cannot be spared anything.
    """

    name: ClassVar[str] = "downsample"
    paper: ClassVar[str] = "no paper; a simple rival"
    acts: ClassVar[str] = "before the vision tower"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.SMALLER_INPUT})

    keep: float = 0.25

    def image_scale(self, scene: Scene) -> float:
        return math.sqrt(self.keep)
