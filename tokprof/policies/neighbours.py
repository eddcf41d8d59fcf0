"""Kept tokens enriched by those most like them, and one token for all the others (PruMerge)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBOURS = 32


def merge_neighbours(tokens: Tensor, keys: Tensor, weights: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Enriched tokens (rows, k, width), and one for all that were not chosen (rows, width)."""
    from torch.nn.functional import normalize

    unit = normalize(keys, dim=-1)
    similar = unit.gather(1, _wide(chosen, unit)) @ unit.transpose(1, 2)  # (rows, k, size)
    similar = similar.scatter(2, chosen[..., None], float("-inf"))
    nearest = similar.topk(min(NEIGHBOURS, tokens.shape[1] - 1), dim=-1).indices
    every = weights[:, None].expand(-1, chosen.shape[1], -1)
    mixing = similar.new_zeros(similar.shape).scatter(2, nearest, every.gather(2, nearest))
    enriched = tokens.gather(1, _wide(chosen, tokens)) + mixing @ tokens
    dropped = weights.scatter(1, chosen, 0.0)
    return enriched, (dropped[..., None] * tokens).sum(dim=1)


def neighbour_macs(size: int, kept: int, width: int, key_width: int) -> int:
    """Work of `merge_neighbours`: similarities of the kept with all, and the weighted sums."""
    return kept * size * (key_width + width)


def _wide(index: Tensor, like: Tensor) -> Tensor:
    return index[..., None].expand(-1, -1, like.shape[-1])
