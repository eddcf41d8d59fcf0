"""HiRED: a fixed budget, shared among tiles by what an early block sees in the thumbnail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tokprof.policies.base import Cost, Edit, ImageView, Need, Newlines, Plan, Policy, Scene, top_indices
from tokprof.policies.per_tile import Picture, cells, pictures, tile_sizes, top_by_quota
from tokprof.policies.shares import floored
from tokprof.policies.tower_costs import class_row_macs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class HiRED(Policy):
    """Class attention of block 0 divides the budget, that of the block behind the features chooses.

    `keep`: the share of a picture's visual tokens, rounded down. Its thumbnail gets `alpha` of that
    (b = 0.2 on 2×2 tiles: 288 of 576). Each tile gets of the rest what falls onto it of the
    thumbnail's (1 − alpha)·N tokens with most attention in block 0; within thumbnail and tile
    the tokens with most attention in the later block stay, both summed over heads. A picture
    without thumbnail keeps its best.

    Code: hasanar1f/HiRED at 502d6dd.
    `cells`: which tile a thumbnail token falls onto: "exact", the one above it, or "official", the
    code's horizontal stripes. The code loses what rounding leaves of the tiles' budget, spends some on
    padding, and mixes up rows and columns of grids that are not square; here the total is exact.
    On LLaVA-1.5 it chooses before the projector, which here runs on every token. `newlines`: the code
    drops newline tokens.
    """

    name: ClassVar[str] = "hired"
    paper: ClassVar[str] = "HiRED: Attention-Guided Token Dropping, AAAI 2025, arXiv 2408.10945"
    acts: ClassVar[str] = "before the decoder"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CLS_ATTENTION})

    keep: float = 0.2
    newlines: Newlines = "drop"
    alpha: float = 0.5
    cells: Literal["exact", "official"] = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_share("alpha")
        self.check_choice("cells", ("exact", "official"))
        self.check_choice("newlines", ("keep", "drop"))

    def vision_layers(self, depth: int) -> tuple[int, ...]:
        return (0,)

    def counts(self, picture: Picture) -> tuple[int, int]:
        """Tokens of the thumbnail and of the tiles."""
        detail = picture.grid.patches
        if picture.thumbnail is None:
            return 0, floored(self.keep, detail)
        thumbnail = picture.side**2
        total = floored(self.keep, thumbnail + detail)
        of_thumbnail = min(int(total * self.alpha), thumbnail)
        return of_thumbnail, min(total - of_thumbnail, detail)

    def plan(self, scene: Scene) -> Plan:
        return Plan(layers=(sum(sum(self.counts(picture)) for picture in pictures(scene.layout)),) * scene.depth)

    def costs(self, scene: Scene) -> list[Cost]:
        macs = class_row_macs(scene)
        return [Cost("class attention, block 0", macs), Cost("class attention behind the features", macs)]

    def edit_image(self, view: ImageView) -> Edit:
        import torch

        early, late = view.cls_attention(0).sum(dim=1), view.cls_attention().sum(dim=1)
        sizes, kept = tile_sizes(view.scene.layout), []
        for picture in pictures(view.scene.layout):
            of_thumbnail, of_tiles = self.counts(picture)
            detail = late[:, picture.detail]
            if picture.thumbnail is None:
                kept.append(top_indices(detail, of_tiles) + picture.detail.start)
                continue
            kept.append(top_indices(late[:, picture.thumbnail], of_thumbnail) + picture.thumbnail.start)
            own = sizes[picture.first_tile : picture.first_tile + picture.grid.tiles]
            quotas = self._quotas(early[:, picture.thumbnail], picture, of_tiles)
            tile = view.tile[picture.detail] - picture.first_tile
            kept.append(top_by_quota(detail, tile, own, quotas, of_tiles) + picture.detail.start)
        return Edit(torch.cat(kept, dim=1))

    def _quotas(self, early: Tensor, picture: Picture, budget: int) -> Tensor:
        """(batch, tiles), rounded down."""
        import torch

        tiles, patches = picture.grid.tiles, early.shape[1]
        judges = max(1, int(patches * (1 - self.alpha)))
        if self.cells == "exact":
            fallen = cells(picture, early)
        else:
            fallen = torch.arange(patches, device=early.device) * tiles // patches
        chosen = fallen[top_indices(early, judges)]  # (batch, judges)
        votes = (chosen[..., None] == torch.arange(tiles, device=early.device)).sum(dim=1)
        return votes * budget // judges
