"""DTop-K: HiDivDrop's differentiable choice of tokens. At inference it is the hard top-k of its policy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def ranks(scores: Tensor) -> Tensor:
    """c'_i = (1/N) Σ_j [c_i ≥ c_j], in (0, 1]: (batch, tokens), fp32. Equal scores share a rank.

    The rank of the i-th smallest is i/N; found by sorting, without the N × N comparison.
    """
    import torch

    scores = scores.detach().float()
    ascending = scores.sort(dim=-1).values
    return torch.searchsorted(ascending, scores, right=True).float() / scores.shape[-1]


def mask(scores: Tensor, ratio: Tensor, sharpness: float | None = None) -> Tensor:
    """Which tokens stay, 1 or 0, with the gradient of Sigmoid(λ(c' − a)) (straight through).

    `ratio`: a, the learnable share to drop; `sharpness`: λ, by default the number of candidates.
    The paper's formula has c where its text has the rank c'. A rank is piecewise constant, so what
    learns is the ratio, and the tokens through the mask that multiplies them.
    """
    rank = ranks(scores)
    soft = ((rank - ratio) * (scores.shape[-1] if sharpness is None else sharpness)).sigmoid()
    hard = (rank > ratio).to(soft.dtype)
    return hard + (soft - soft.detach())  # exactly 0 or 1


def kept_count(tokens: int, ratio: float) -> int:
    """Tokens that stay when no two scores are equal: N − ⌊aN⌋, whatever the scores."""
    return tokens - math.floor(ratio * tokens + 1e-9)
