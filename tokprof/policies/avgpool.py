"""Average pooling: neighbouring tokens become their mean, a rival that every merging has to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tokprof.policies.base import Edit, ImageView, Newlines, Plan, Policy, Scene
from tokprof.shapes import Block

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AvgPool(Policy):
    """Each grid of visual tokens (thumbnail, stitched tiles, frame) is pooled to a smaller one.

    `keep`: the share of a grid's tokens; r × c becomes r' × c' with r' = √keep · r, rounded, and c'
    so that r'·c' comes nearest to keep·r·c. Where the sides are not divisible, cells overlap by a row
    or column. A cell's mean stands at the place of its middle token; newline tokens stay.
    """

    name: ClassVar[str] = "avgpool"
    paper: ClassVar[str] = "no paper; a simple rival"
    acts: ClassVar[str] = "before the decoder"

    keep: float = 0.25
    newlines: Newlines = "keep"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("newlines", ("keep", "drop"))

    def pooled(self, block: Block) -> tuple[int, int]:
        """Rows and columns of a pooled grid."""
        rows = min(max(1, round(math.sqrt(self.keep) * block.rows)), block.rows)
        cols = round(self.keep * block.patches / rows)
        return rows, min(max(1, cols), block.cols)

    def plan(self, scene: Scene) -> Plan:
        count = sum(rows * cols for rows, cols in map(self.pooled, scene.layout.blocks))
        return Plan(layers=(count,) * scene.depth)

    def edit_image(self, view: ImageView) -> Edit:
        import torch
        from torch.nn.functional import adaptive_avg_pool2d

        keep, values, start = [], [], 0
        for block in view.scene.layout.blocks:
            size = self.pooled(block)
            tokens = view.tokens[:, start : start + block.patches].float().transpose(1, 2)
            grid = torch.unflatten(tokens, 2, (block.rows, block.cols))
            values.append(adaptive_avg_pool2d(grid, size).flatten(2).transpose(1, 2))
            keep.append(start + _middles(block, size, view.tokens))
            start += block.patches
        return Edit(
            torch.cat(keep).expand(view.tokens.shape[0], -1), values=torch.cat(values, dim=1).to(view.tokens.dtype)
        )


def _middles(block: Block, size: tuple[int, int], like: Tensor) -> Tensor:
    """Raster index of the token in the middle of each cell."""
    import torch

    rows, cols = (
        (2 * torch.arange(cells, device=like.device) + 1) * length // (2 * cells)
        for cells, length in zip(size, (block.rows, block.cols), strict=True)
    )
    return (rows[:, None] * block.cols + cols).flatten()
