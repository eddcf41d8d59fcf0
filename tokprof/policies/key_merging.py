"""Merging leftover tokens by the similarity of their keys (VisionZip, and VisionDrop after it).

Evenly spaced leftovers become targets; every other leftover goes to the target with the most similar
key. Sums are matrix products with 0/1 matrices, so that a run repeats itself to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Variant = Literal["official", "paper"]


def merge_leftovers(
    tokens: Tensor, keys: Tensor, leftover: Tensor, count: int, variant: Variant = "official"
) -> tuple[Tensor, Tensor]:
    """Merge `leftover` (batch, L), ascending indices among the tokens, into `count` ≤ L tokens.

    `tokens` (batch, present, width), `keys` (batch, present, key width). Returns the targets' indices
    (batch, count) and their new contents (batch, count, width). A target becomes itself plus the mean
    of the tokens it absorbs, as the official code has it, or (`paper`) the average of all of them.
    """
    import torch
    from torch.nn.functional import normalize

    total = leftover.shape[1]
    step = max(1, total // count)
    spaced = slice(0, step * count, step)
    unit = normalize(_take(keys, leftover).float(), dim=-1)
    contents = _take(tokens, leftover).float()
    nearest = (unit @ unit[:, spaced].transpose(1, 2)).argmax(dim=-1)  # (batch, L)
    place = torch.arange(total, device=tokens.device)
    is_target = (place % step == 0) & (place < step * count)
    absorbed = (nearest[..., None] == place[:count]) & ~is_target[:, None]
    weights = absorbed.float().transpose(1, 2)  # (batch, count, L)
    sums, members = weights @ contents, weights.sum(dim=-1, keepdim=True)
    own = contents[:, spaced]
    merged = own + sums / members.clamp(min=1) if variant == "official" else (own + sums) / (1 + members)
    return leftover[:, spaced], merged.to(tokens.dtype)


def merging_macs(leftover: int, count: int, width: int, key_width: int) -> int:
    """Work of `merge_leftovers`: similarities with the targets, and the sums."""
    return leftover * count * (key_width + width)


def _take(tensor: Tensor, index: Tensor) -> Tensor:
    return tensor.gather(1, index[..., None].expand(-1, -1, tensor.shape[-1]))
