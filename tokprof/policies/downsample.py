"""Downsample: the same budget by showing the model a smaller picture, which spares its tower as well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from tokprof.errors import UnsupportedError
from tokprof.policies.base import Need, Policy, Scene


@dataclass(frozen=True, kw_only=True)
class Downsample(Policy):
    """Pictures are shrunk before anything else happens; every token they then give is kept.

    `keep`: the share that is left of the area the model sees of a picture, so both sides shrink by
    √keep (`image_scale`, which the engine asks before it prepares the request). How many tokens that gives is
    the model's affair: about keep·N at native resolution, steps of whole tiles where pictures are cut
    into tiles. Plans are about the scene of the smaller picture. A model that resizes whatever it gets
    to one square (LLaVA-1.5, video frames) cannot be spared anything, and is refused; so are pictures that
    a tiling model sees as one tile each already.
    """

    name: ClassVar[str] = "downsample"
    paper: ClassVar[str] = "no paper; a simple rival"
    acts: ClassVar[str] = "before the vision tower"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.SMALLER_INPUT})

    keep: float = 0.25

    def check(self, scene: Scene) -> None:
        if scene.model.tiling != "native" and all(block.tiles == 1 for block in scene.layout.blocks):
            tiles = scene.model.tiling in ("anyres", "anyres-max")
            reason = (
                "these pictures are one square tile each, and smaller ones would give as many tokens"
                if tiles
                else "this model resizes whatever it gets to one square, and spends the same tokens on it"
            )
            raise UnsupportedError(f"downsample: {reason}", "avgpool keeps as many tokens, behind the tower")
        if scene.model.tiling != "native" and not scene.layout.newlines:
            raise UnsupportedError("downsample: the fixed grid has as many tokens for any picture", "--anyres native")

    def image_scale(self, scene: Scene) -> float:
        return math.sqrt(self.keep)
