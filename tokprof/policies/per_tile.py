"""Choosing within each tile: which visual tokens belong to which pass of the vision tower.

Counts come from integers alone. Index tensors are built from slices whose bounds the host knows, so
that nothing has to wait for the device; tiles of equal size are handled side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from tokprof.shapes import Block, VisualLayout

if TYPE_CHECKING:
    from torch import Tensor


@lru_cache(maxsize=64)
def tile_sizes(layout: VisualLayout) -> tuple[int, ...]:
    """Visual tokens of each tile, newline tokens apart; unpadding makes them differ."""
    found = Counter(layout.column("tile"))
    return tuple(found[tile] for tile in range(layout.tower_passes))


@dataclass(frozen=True)
class Group:
    """Tiles of equally many tokens. `places`: (tiles, size), ascending indices among the tokens shown."""

    tiles: tuple[int, ...]
    size: int
    places: Tensor

    def shown(self, chosen: Tensor) -> Tensor:
        """Indices within each tile, (batch × tiles, k), as indices among the tokens shown, (batch, tiles × k)."""
        import torch

        tiles = len(self.tiles)
        every = self.places.expand(chosen.shape[0] // tiles, -1, -1)
        return every.gather(2, torch.unflatten(chosen, 0, (-1, tiles))).flatten(1)


def groups(tile: Tensor, layout: VisualLayout) -> list[Group]:
    """The tiles of a prompt by size, in order of their first tile; empty tiles are left out."""
    import torch

    sizes = tile_sizes(layout)
    by_tile = torch.split(tile.argsort(stable=True), list(sizes))
    found = []
    for size in dict.fromkeys(size for size in sizes if size):
        tiles = tuple(index for index, own in enumerate(sizes) if own == size)
        found.append(Group(tiles, size, torch.stack([by_tile[index] for index in tiles])))
    return found


def top_per_tile(scores: Tensor, tile: Tensor, layout: VisualLayout, counts: Sequence[int]) -> Tensor:
    """The `counts[t]` best tokens of each tile t, ascending: (batch, sum of counts). Ties go to the lower index."""
    import torch

    grouped = _by_tile_and_score(scores, tile)
    parts = torch.split(grouped, list(tile_sizes(layout)), dim=1)
    best = [part[:, :count] for part, count in zip(parts, counts, strict=True)]
    return torch.cat(best, dim=1).sort(dim=1).values


def top_by_quota(scores: Tensor, tile: Tensor, sizes: Sequence[int], quotas: Tensor, count: int) -> Tensor:
    """Exactly `count` tokens, ascending: of each tile its `quotas` (batch, tiles) best, decided on the device.

    What rounding left over goes to the next in rank of every tile, lower index first; what is too much
    is taken from the last in rank. `tile`: (present,), counted from 0.
    """
    import torch

    from tokprof.policies.base import top_indices

    place = torch.cat([torch.arange(size, device=scores.device) for size in sizes])
    rank = torch.empty_like(scores, dtype=torch.long)
    rank = rank.scatter(1, _by_tile_and_score(scores, tile), place.expand(scores.shape[0], -1))
    return top_indices(quotas[:, tile] - rank, count)


def _by_tile_and_score(scores: Tensor, tile: Tensor) -> Tensor:
    """Indices with tile after tile, best first: (batch, present)."""
    ranked = scores.float().argsort(dim=1, descending=True, stable=True)
    return ranked.gather(1, tile[ranked].argsort(dim=1, stable=True))


@dataclass(frozen=True)
class Picture:
    """Where a picture lies among the tokens shown (no newline tokens): thumbnail, and what its tiles show.

    A picture without thumbnail, or a frame, is all `detail`. `first_tile`: of the detail.
    """

    thumbnail: slice | None
    side: int
    detail: slice
    grid: Block
    first_tile: int


def pictures(layout: VisualLayout) -> list[Picture]:
    found, start, tile, thumbnail = [], 0, 0, None
    for block in layout.blocks:
        own = slice(start, start + block.patches)
        if block.thumbnail:
            thumbnail = own
        else:
            found.append(Picture(thumbnail, block.side, own, block, tile))
            thumbnail = None
        start, tile = own.stop, tile + block.tiles
    return found


def cells(picture: Picture, like: Tensor) -> Tensor:
    """The tile under each token of the thumbnail, (side²,), by integer division of its coordinates."""
    import torch

    steps, grid = torch.arange(picture.side, device=like.device), picture.grid
    rows, cols = steps * grid.tile_rows // picture.side, steps * grid.tile_cols // picture.side
    return (rows[:, None] * grid.tile_cols + cols).flatten()
