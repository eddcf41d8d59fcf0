"""VisionZip: the tokens the class token looks at, and the rest merged into a few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tokprof.policies.base import Cost, Edit, ImageView, Need, Newlines, Plan, Policy, Scene
from tokprof.policies.key_merging import Variant, merge_leftovers, merging_macs
from tokprof.policies.per_tile import groups, tile_sizes
from tokprof.policies.shares import rounded
from tokprof.policies.tower_costs import class_token_projection_macs, key_macs, projects_by_token, saliency_macs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class VisionZip(Policy):
    """Dominant and contextual tokens of each tile, chosen in the vision tower.

    `keep`: the share of each tile's visual tokens, rounded; 64 of 576 are 54 dominant + 10 contextual
    (5 · 64 on LLaVA-NeXT). `contextual`: the merged ones among them, published as 10 of 64. Dominant
    are those with the most class attention (without a class token: the most attention received); the
    class token itself counts as one and is handed over. The others merge by key similarity.
    `newlines`: the code drops newline tokens.

    Code: dvlab-research/VisionZip at 3151f6d.
    Traps: a merged token is the target plus the mean of what it absorbs (`variant="official"`, the
    default, as in the published numbers); the paper says average (`"paper"`). Order: class tokens,
    dominant tokens as in the picture, contextual tokens; on tiles the code puts the thumbnail's three
    kinds before those of the tiles.
    """

    name: ClassVar[str] = "visionzip"
    paper: ClassVar[str] = "VisionZip: Longer is Better but Not Necessary, CVPR 2025, arXiv 2412.04467"
    acts: ClassVar[str] = "before the projector"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.SALIENCY, Need.PATCH_KEYS})
    optional: ClassVar[frozenset[Need]] = frozenset({Need.CLS_FEATURE})
    before_projector: ClassVar[bool] = True

    keep: float = 1 / 9
    newlines: Newlines = "drop"
    contextual: float = 10 / 64
    variant: Variant = "official"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_share("contextual", zero=True)
        self.check_choice("newlines", ("keep", "drop"))
        self.check_choice("variant", ("official", "paper"))

    def split(self, size: int, scene: Scene) -> tuple[int, int]:
        """Dominant patches and contextual tokens of a tile; with the class token they fill its budget."""
        budget = rounded(self.keep, size) - int(scene.model.vision.cls_token)
        merged = min(int(self.contextual * rounded(self.keep, size) + 0.5), budget)
        return budget - merged, merged

    def plan(self, scene: Scene) -> Plan:
        count = sum(rounded(self.keep, size) for size in tile_sizes(scene.layout))
        return Plan(layers=(count,) * scene.depth, projected=count if projects_by_token(scene) else None)

    def costs(self, scene: Scene) -> list[Cost]:
        vision, merging = scene.model.vision, 0
        width = vision.width if projects_by_token(scene) else scene.model.decoder.width
        for size in tile_sizes(scene.layout):
            dominant, merged = self.split(size, scene)
            merging += merging_macs(size - dominant, merged, width, vision.width // vision.heads)
        found = [
            Cost("attention in the tower", saliency_macs(scene)),
            Cost("keys", key_macs(scene)),
            Cost("merging", merging),
        ]
        if vision.cls_token and not projects_by_token(scene):
            found.append(Cost("class tokens through the projector", class_token_projection_macs(scene)))
        return found

    def edit_image(self, view: ImageView) -> Edit:
        import torch

        vision, saliency, tokens = view.scene.model.vision, view.saliency(), view.tokens
        keys = torch.unflatten(view.patch_keys().float(), -1, (vision.heads, -1)).mean(dim=-2)
        dominant, targets, merged = [], [], []
        for group in groups(view.tile, view.scene.layout):  # tiles of one size side by side: (batch × tiles, size, …)
            count, contextual = self.split(group.size, view.scene)
            best, rest = _split(saliency[:, group.places].flatten(0, 1).float(), count)
            dominant.append(group.shown(best))
            if contextual:
                own_tokens, own_keys = tokens[:, group.places].flatten(0, 1), keys[:, group.places].flatten(0, 1)
                target, content = merge_leftovers(own_tokens, own_keys, rest, contextual, self.variant)
                targets.append(group.shown(target))
                merged.append(torch.unflatten(content, 0, (-1, len(group.tiles))).flatten(1, 2))
        first = torch.cat(dominant, dim=1).sort(dim=1).values
        contents = tokens.gather(1, first[..., None].expand(-1, -1, tokens.shape[-1]))
        return Edit(
            torch.cat((first, *targets), dim=1),
            values=torch.cat((contents, *merged), dim=1),
            extra=view.cls_features() if vision.cls_token else None,
            extra_first=True,
            reordered=True,
        )


def _split(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices of the `count` best of each row, and of the others; each ascending."""
    ranked = scores.sort(dim=-1, descending=True, stable=True).indices
    return ranked[..., :count].sort(dim=-1).values, ranked[..., count:].sort(dim=-1).values
