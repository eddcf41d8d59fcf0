"""VisPruner: important tokens, and among the rest those that differ from each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokprof.policies.base import Cost, Edit, ImageView, Need, Newlines, Plan, Policy, Scene
from tokprof.policies.bipartite import duplicates_macs, without_duplicates
from tokprof.policies.per_tile import groups, tile_sizes
from tokprof.policies.shares import rounded
from tokprof.policies.tower_costs import saliency_macs


@dataclass(frozen=True, kw_only=True)
class VisPruner(Policy):
    """Per tile: the tokens with most class attention, then the least alike of the others.

    `keep`: the share of each tile's visual tokens T/N, rounded (64 of 576; 5 · 64 on LLaVA-NeXT).
    `important`: the share of T taken by attention (mean over heads of the class token's row in the
    block behind the features; without a class token the attention received, as its author says),
    rounded down; the rest of T is what is left of the others once near duplicates are dropped.
    Similarity is that of the tower's features, or of the tokens where patches are merged to tokens.
    `newlines`: the code has none.

    Code: Theia-4869/VisPruner at aefa01a.
    Traps: the projector runs on every token, selection comes behind it, as in the code. One swap in the
    order changes every later step, so half precision does not repeat single precision.
    """

    name: ClassVar[str] = "vispruner"
    paper: ClassVar[str] = "Beyond Text-Visual Attention: Exploiting Visual Cues, ICCV 2025, arXiv 2412.01818v2"
    acts: ClassVar[str] = "before the decoder"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.SALIENCY})
    optional: ClassVar[frozenset[Need]] = frozenset({Need.PATCH_FEATURES})

    keep: float = 1 / 9
    newlines: Newlines = "drop"
    important: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_share("important", zero=True)
        self.check_choice("newlines", ("keep", "drop"))

    def split(self, size: int) -> tuple[int, int]:
        """Important and diverse tokens of a tile."""
        budget = rounded(self.keep, size)
        important = int(budget * self.important)
        return important, budget - important

    def plan(self, scene: Scene) -> Plan:
        return Plan(layers=(sum(sum(self.split(size)) for size in tile_sizes(scene.layout)),) * scene.depth)

    def costs(self, scene: Scene) -> list[Cost]:
        vision = scene.model.vision
        width = vision.width if vision.merge_side == 1 else scene.model.decoder.width
        residual = [size - self.split(size)[0] for size in tile_sizes(scene.layout)]
        return [
            Cost("attention in the tower", saliency_macs(scene)),
            Cost("similarities", sum(duplicates_macs(count, width) for count in residual)),
        ]

    def edit_image(self, view: ImageView) -> Edit:
        import torch

        saliency = view.saliency().float()
        features = view.features if view.scene.model.vision.merge_side == 1 else view.tokens
        kept = []
        for group in groups(view.tile, view.scene.layout):
            important, diverse = self.split(group.size)
            own = saliency[:, group.places].flatten(0, 1)  # (batch × tiles, size)
            ranked = own.sort(dim=-1, descending=True, stable=True).indices
            others = ranked[:, important:]
            index = others[..., None].expand(-1, -1, features.shape[-1])
            distinct = without_duplicates(features[:, group.places].flatten(0, 1).gather(1, index), diverse)
            kept.append(group.shown(torch.cat((ranked[:, :important], others.gather(1, distinct)), dim=1)))
        return Edit(torch.cat(kept, dim=1).sort(dim=1).values)
