"""LLaVA-PruMerge+: PruMerge, and evenly spaced tokens between the outstanding ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tokprof.policies.prumerge import PruMerge, outliers

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PruMergePlus(PruMerge):
    """PruMerge with twice the tokens: see `prumerge` for attention, merging and the last token.

    `keep`: the share of each tile's visual tokens, rounded; one half, rounded up, by attention, the
    other evenly spaced among those left (the code's uniform grid may repeat tokens and fails at some
    budgets). `adaptive`: the outliers, and every ⌊⌊1/r⌋/3⌋-th token not yet chosen, r their share.
    """

    name: ClassVar[str] = "prumerge_plus"
    paper: ClassVar[str] = "LLaVA-PruMerge: Adaptive Token Reduction, ICCV 2025, arXiv 2403.15388 (PruMerge+)"

    keep: float = 0.25

    def most(self, size: int) -> int:
        return max(1, size - 1)

    def choose(self, weights: Tensor) -> Tensor:
        import torch

        size = weights.shape[1]
        ranked = weights.sort(dim=-1, descending=True, stable=True).indices
        count = self.count(size)
        best = outliers(weights) if self.adaptive else count - count // 2
        others = ranked[:, best:].sort(dim=-1).values
        if self.adaptive:
            spaced = others[:, (others[0] % max(1, size // best // 3) == 0) & (others[0] < size - 1)]
            spaced = spaced[:, : size - 1 - best]
        else:
            evenly = 2 * torch.arange(count // 2, device=weights.device) + 1
            spaced = others[:, evenly * (size - best) // max(1, 2 * (count // 2))]
        return torch.cat((ranked[:, :best], spaced), dim=1)
