"""Greedy choice of tokens that differ from each other, from a given first one.

k-center: next comes the token whose most similar chosen token is least similar to it (ToDRE v1,
algorithm 1); max-sum: the token with the least sum of similarities to all chosen ones (v2).
Similarity is the cosine, in fp32. A chosen token cannot come again (eq. 4; algorithm 1 forgets to
say so); ties go to the lower index. Nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Diversity = Literal["k-center", "max-sum"]

GRAM_TOKENS = 3072  # up to so many tokens all similarities are computed at once (36 MiB per sample)


def choose_diverse(features: Tensor, first: Tensor, count: int, diversity: Diversity = "k-center") -> Tensor:
    """`count` indices per sample, ascending, `first` (batch,) among them; features (batch, present, width).

    A step hangs on the one before, so on a GPU its price is what the host queues: three operators and no view
    (four in a batch) where similarities are precomputed, five where they are not.
    """
    from torch.nn.functional import normalize

    from tokprof.policies.base import top_indices

    unit = normalize(features.float(), dim=-1)
    similar_to = _precomputed(unit) if unit.shape[1] <= GRAM_TOKENS else _on_demand(unit)
    closeness = similar_to(first)  # (batch, present); infinite at chosen tokens
    for _ in range(count - 1):
        similarity = similar_to(closeness.argmin(dim=1))
        closeness = closeness.maximum(similarity) if diversity == "k-center" else closeness + similarity
    return top_indices(closeness == float("inf"), count)


def _precomputed(unit: Tensor) -> Callable[[Tensor], Tensor]:
    gram = unit @ unit.transpose(1, 2)
    gram.diagonal(dim1=1, dim2=2).fill_(float("inf"))
    return _row_of(gram)


def _on_demand(unit: Tensor) -> Callable[[Tensor], Tensor]:
    unit_of = _row_of(unit)

    def similar_to(chosen: Tensor) -> Tensor:
        similarity = unit.bmm(unit_of(chosen).unsqueeze(2)).squeeze(2)
        return similarity.scatter_(1, chosen[:, None], float("inf"))

    return similar_to


def _row_of(table: Tensor) -> Callable[[Tensor], Tensor]:
    """table (batch, rows, width) → a function from one row's index per sample (batch,) to that row (batch, width)."""
    import torch

    batch, rows = table.shape[:2]
    every = table.flatten(0, 1)
    if batch == 1:
        return lambda chosen: every.index_select(0, chosen)
    first = torch.arange(batch, device=table.device) * rows
    return lambda chosen: every.index_select(0, first + chosen)


def diversity_macs(present: int, count: int, width: int) -> int:
    """Work of `choose_diverse`."""
    return present * width * (present if present <= GRAM_TOKENS else count)
