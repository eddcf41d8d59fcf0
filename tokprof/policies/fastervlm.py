"""FasterVLM: the tokens that the vision tower's class token looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokprof.policies.base import Cost, Edit, ImageView, Need, Newlines, Plan, Policy, Scene
from tokprof.policies.per_tile import tile_sizes, top_per_tile
from tokprof.policies.shares import rounded
from tokprof.policies.tower_costs import class_row_macs


@dataclass(frozen=True, kw_only=True)
class FasterVLM(Policy):
    """Per tile (or frame) the tokens with the highest class attention, mean over heads.

    `keep`: the share of each tile's visual tokens, rounded: 25, 10 and 5 % of 576 are 144, 58 and 29.

    Code: Theia-4869/FasterVLM at f5d5f12.
    Trap: "the last layer" of the paper is, in the code, the one whose output feeds the projector. The
    code prunes behind the projector and forces LLaVA-NeXT to 2880 tokens without newlines; on
    native grids newline tokens are dropped here too. Without a class token the method is not defined.
    """

    name: ClassVar[str] = "fastervlm"
    paper: ClassVar[str] = "[CLS] Attention is All You Need for Training-Free Visual Token Pruning, arXiv 2412.01818v1"
    acts: ClassVar[str] = "before the decoder"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CLS_ATTENTION})

    keep: float = 0.25
    newlines: Newlines = "drop"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("newlines", ("keep", "drop"))

    def counts(self, scene: Scene) -> list[int]:
        return [rounded(self.keep, size) if size else 0 for size in tile_sizes(scene.layout)]

    def plan(self, scene: Scene) -> Plan:
        return Plan(layers=(sum(self.counts(scene)),) * scene.depth)

    def costs(self, scene: Scene) -> list[Cost]:
        return [Cost("class attention", class_row_macs(scene))]

    def edit_image(self, view: ImageView) -> Edit:
        scores = view.cls_attention().mean(dim=1)
        return Edit(top_per_tile(scores, view.tile, view.scene.layout, self.counts(view.scene)))
