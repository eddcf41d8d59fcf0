"""Uniform: evenly spaced visual tokens, a rival that every selection has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokprof.policies.base import Edit, ImageView, Plan, Policy, Scene
from tokprof.policies.shares import rounded


@dataclass(frozen=True, kw_only=True)
class Uniform(Policy):
    """Token floor((i + ½)·N / k) of the sequence for i = 0 … k − 1.

    `keep`: the share of visual tokens entering the decoder, k/N, rounded.
    """

    name: ClassVar[str] = "uniform"
    paper: ClassVar[str] = "no paper; a simple rival"
    acts: ClassVar[str] = "before the decoder"

    keep: float = 0.25

    def plan(self, scene: Scene) -> Plan:
        return Plan(layers=(rounded(self.keep, scene.visual),) * scene.depth)

    def edit_image(self, view: ImageView) -> Edit:
        import torch

        present, count = view.scene.visual, rounded(self.keep, view.scene.visual)
        spaced = (2 * torch.arange(count, device=view.tokens.device) + 1) * present // (2 * count)
        return Edit(spaced.expand(view.tokens.shape[0], -1))
