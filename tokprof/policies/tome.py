"""ToMe: merge similar tokens inside the vision tower, a few in every block."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from tokprof.errors import ParameterError, UnsupportedError
from tokprof.policies.base import Cost, Edit, Need, Newlines, Plan, Policy, Scene, VisionView
from tokprof.policies.bipartite import match_halves, matching_macs
from tokprof.policies.shares import rounded

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ToMe(Policy):
    """Bipartite soft matching between attention and feed-forward of each block (§3).

    `keep`: the share of each tile's patches that reach the decoder, rounded. The merges are spread as
    evenly as can be over the blocks that feed the decoder (576 → 64 in 23 blocks: 22 or 23 each), at
    most half of the tokens in one. Every second patch, counted from the class token, looks for the
    most similar of the others by the mean of its keys over heads; the best pairs become their mean,
    weighted by size. Later attention adds log(size) ("proportional", eq. 1); a class token never merges.

    No code for vision-language models exists. `order`: "raster" (default) keeps places; "official"
    is the image code's, unmerged tokens before those that took others in, which scrambles the picture
    for a decoder. With padding, tiles and newlines there is no grid left: padding counts as picture,
    newline tokens go.
    """

    name: ClassVar[str] = "tome"
    paper: ClassVar[str] = "Token Merging: Your ViT But Faster, ICLR 2023, arXiv 2210.09461"
    acts: ClassVar[str] = "inside the vision tower"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.TOWER_TOKENS})

    keep: float = 1 / 9
    newlines: Newlines = "drop"
    order: Literal["raster", "official"] = "raster"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("newlines", ("drop",))
        self.check_choice("order", ("raster", "official"))

    def check(self, scene: Scene) -> None:
        vision = scene.model.vision
        if any(block.resampled for block in scene.layout.blocks):
            raise UnsupportedError("tome leaves no grid of patches to pool or resize", "use a picture of another size")
        least = -(-vision.patches // 2**vision.layers_run)
        if not self.identity and rounded(self.keep, vision.patches) < least:
            raise ParameterError(
                f"tome: keep={self.keep:g}, but {vision.layers_run} blocks cannot more than halve",
                f"at least {least / vision.patches:.3g}",
            )
        if not self.identity and sum(self.plan(scene).layers[:1]) > scene.layout.patches:
            raise ParameterError(f"tome: keep={self.keep:g} counts the padding of this picture", "a smaller share")

    def vision_stops(self, depth: int) -> range:
        return range(depth)

    def plan(self, scene: Scene) -> Plan:
        vision = scene.model.vision
        tower = merged_sizes(vision.patches, rounded(self.keep, vision.patches), vision.layers_run)
        count = tower[-1] * scene.layout.tower_passes
        return Plan(layers=(count,) * scene.depth, projected=count, tower=tower)

    def costs(self, scene: Scene) -> list[Cost]:
        vision, macs = scene.model.vision, 0
        tower = self.plan(scene).tower or ()
        for before, after in pairwise(tower):
            if after < before:
                macs += matching_macs(before, vision.width // vision.heads)
                macs += merging_macs(before, before - after, vision.width)
        return [Cost("matching and merging", macs * scene.layout.tower_passes)]

    def edit_vision(self, view: VisionView) -> Edit | None:
        import torch

        vision = view.scene.model.vision
        tower = merged_sizes(vision.patches, rounded(self.keep, vision.patches), vision.layers_run)
        merges = view.tokens.shape[1] - tower[min(view.block + 1, vision.layers_run)]
        if not merges:
            return None
        staying, going, target = match_halves(view.keys(), merges)
        tiles, present = view.tokens.shape[:2]
        takers = torch.arange(0, present, 2, device=view.tokens.device).expand(tiles, -1)
        keep = torch.cat((staying, takers), dim=1)
        if self.order == "raster":
            keep = keep.sort(dim=1).values
        values, sizes = merge(view.tokens, view.sizes, going, target)
        index = keep[..., None].expand(-1, -1, values.shape[-1])
        return Edit(keep, values=values.gather(1, index), sizes=sizes.gather(1, keep), reordered=True)


def merge(tokens: Tensor, sizes: Tensor, going: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Every token and size, after those that go were averaged into their targets, weighted by size."""
    import torch

    place = torch.arange(tokens.shape[1], device=tokens.device)
    into = (target[:, None] == place[:, None]).float()  # (tiles, present, merges)
    mass = sizes.float()
    weight = mass.gather(1, going)
    weighted = weight[..., None] * tokens.gather(1, going[..., None].expand(-1, -1, tokens.shape[-1])).float()
    total = mass + (into * weight[:, None]).sum(dim=-1)
    merged = (mass[..., None] * tokens.float() + into @ weighted) / total[..., None]
    return merged.to(tokens.dtype), total


def merging_macs(present: int, merges: int, width: int) -> int:
    return present * merges * width


def merged_sizes(patches: int, left: int, blocks: int) -> tuple[int, ...]:
    """Tokens per tile that enter each block, and that leave the last; no block more than halves."""
    even = (patches - block * (patches - left) // blocks for block in range(blocks + 1))
    return tuple(min(count, left * 2 ** (blocks - block)) for block, count in enumerate(even))
