"""GlobalCom²: the thumbnail tells each tile how many tokens it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tokprof.errors import UnsupportedError
from tokprof.policies.base import Cost, Edit, ImageView, Need, Newlines, Plan, Policy, Scene, top_indices
from tokprof.policies.per_tile import Picture, cells, pictures, tile_sizes, top_by_quota
from tokprof.policies.shares import floored
from tokprof.policies.tower_costs import class_row_macs

if TYPE_CHECKING:
    from torch import Tensor

TEMPERATURE = 10.0


@dataclass(frozen=True, kw_only=True)
class GlobalCom2(Policy):
    """For pictures of a thumbnail and tiles: global worth decides budgets, global and local worth tokens.

    `keep`: ρ, the share of the thumbnail's tokens and of all tiles' tokens together, each rounded down
    (ρ = 0.25 on 2×2 tiles: 144 + 576). Tile j gets ρ·(1 + σ_j − 1/n) of its tokens, σ the softmax over
    tiles of (s − max s)/10, s the sum of thumbnail scores above the tile. Within a tile scores
    are its own plus the thumbnail's upsampled to the tiles' grid, each divided by its length.
    Newline tokens always stay.

    Code: xuyang-liu16/GlobalCom2 at 96b2d00.
    `variant`: "official", as behind the published numbers, scores by the scaled logits of the class
    token's row in the tower's last block (mean over heads) and hands the thumbnail's tokens over in
    falling order; "paper" scores by attention and keeps their order. The code drops what rounding
    leaves of the tiles' budget, and misplaces tokens of pictures with padding; here the total is exact
    and tokens stay where they are.
    """

    name: ClassVar[str] = "globalcom2"
    paper: ClassVar[str] = "Global Compression Commander: Plug-and-Play Inference Acceleration, arXiv 2501.05179"
    acts: ClassVar[str] = "before the decoder"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.CLS_ATTENTION, Need.TILES})

    keep: float = 0.25
    newlines: Newlines = "keep"
    variant: Literal["official", "paper"] = "official"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("variant", ("official", "paper"))
        self.check_choice("newlines", ("keep", "drop"))

    def check(self, scene: Scene) -> None:
        if any(picture.thumbnail is None for picture in pictures(scene.layout)):
            raise UnsupportedError("globalcom2 needs pictures cut into a thumbnail and tiles", "use a larger picture")

    def vision_layers(self, depth: int) -> tuple[int, ...]:
        return (depth - 1,)

    def plan(self, scene: Scene) -> Plan:
        count = sum(
            floored(self.keep, picture.side**2) + floored(self.keep, picture.grid.patches)
            for picture in pictures(scene.layout)
        )
        return Plan(layers=(count,) * scene.depth)

    def costs(self, scene: Scene) -> list[Cost]:
        return [Cost("class attention", class_row_macs(scene))]

    def edit_image(self, view: ImageView) -> Edit:
        import torch

        last = view.scene.model.vision.depth - 1
        scores = view.cls_attention(last, logits=self.variant == "official").float().mean(dim=1)
        sizes, kept = tile_sizes(view.scene.layout), []
        for picture in pictures(view.scene.layout):
            assert picture.thumbnail is not None
            count = floored(self.keep, picture.side**2)
            overview = scores[:, picture.thumbnail]
            best = overview.sort(dim=1, descending=True, stable=True).indices[:, :count]
            kept.append(
                (best if self.variant == "official" else top_indices(overview, count)) + picture.thumbnail.start
            )
            own_sizes = sizes[picture.first_tile : picture.first_tile + picture.grid.tiles]
            kept.append(self._of_tiles(scores, overview, view.tile, picture, own_sizes) + picture.detail.start)
        return Edit(torch.cat(kept, dim=1), reordered=self.variant == "official")

    def _of_tiles(
        self, scores: Tensor, overview: Tensor, tile: Tensor, picture: Picture, sizes: tuple[int, ...]
    ) -> Tensor:
        import torch
        from torch.nn.functional import interpolate

        grid, number = picture.grid, torch.arange(picture.grid.tiles, device=scores.device)
        above = cells(picture, scores)[:, None] == number  # (side², tiles)
        worth = (overview[..., None] * above).sum(dim=1)
        share = ((worth - worth.amax(dim=1, keepdim=True)) / TEMPERATURE).softmax(dim=1)
        ratio = (self.keep * (1 + share - 1 / grid.tiles)).clamp(max=1)
        tile = tile[picture.detail] - picture.first_tile
        members = tile[:, None] == number  # (detail, tiles)
        quotas = (ratio * members.sum(dim=0)).floor().long()
        square = torch.unflatten(overview, 1, (1, picture.side, picture.side))
        from_above = interpolate(square, size=(grid.rows, grid.cols), mode="bilinear").flatten(1)
        local = scores[:, picture.detail]
        combined = _unit_per_tile(local, members, tile) + _unit_per_tile(from_above, members, tile)
        return top_by_quota(combined, tile, sizes, quotas, floored(self.keep, grid.patches))


def _unit_per_tile(scores: Tensor, members: Tensor, tile: Tensor) -> Tensor:
    """Each tile's scores divided by their Euclidean length."""
    lengths = (scores.square()[..., None] * members).sum(dim=1).sqrt()
    return scores / lengths.clamp(min=1e-12)[:, tile]
