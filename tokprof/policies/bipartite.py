"""Two halves of a token list compared with each other: what ToMe merges and VisPruner drops."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

DROPPED_AT_ONCE = 8  # VisPruner


def match_halves(metric: Tensor, merges: int) -> tuple[Tensor, Tensor, Tensor]:
    """ToMe's bipartite soft matching (§3): the `merges` odd places most similar to an even place go into it.

    metric (batch, present, width). Returns odd places that stay, ascending (batch, odd − merges), odd
    places that go (batch, merges), and the even places that take them in (batch, merges).
    """
    from torch.nn.functional import normalize

    unit = normalize(metric.float(), dim=-1)
    best, partner = (unit[:, 1::2] @ unit[:, ::2].transpose(1, 2)).max(dim=-1)  # (batch, odd)
    ranked = best.sort(dim=-1, descending=True, stable=True).indices
    going = ranked[:, :merges]
    staying = ranked[:, merges:].sort(dim=-1).values
    return 2 * staying + 1, 2 * going + 1, 2 * partner.gather(1, going)


def matching_macs(present: int, width: int) -> int:
    return (present // 2) * (present - present // 2) * width


def without_duplicates(features: Tensor, count: int) -> Tensor:
    """VisPruner's removal of near duplicates: `count` indices per row, in no order.

    features (batch, present, width), most important first. Time and again the list is split by the
    parity of its current order; of the even half, the (at most 8) members most similar to some odd
    one go, and what stays of it is ordered by falling similarity, before the odd half. All
    similarities are computed once. With an odd length the even half has one more (the code crashes).
    """
    import torch
    from torch.nn.functional import normalize

    unit = normalize(features.float(), dim=-1)
    similar = unit @ unit.transpose(1, 2)
    present = features.shape[1]
    order = torch.arange(present, device=features.device).expand(features.shape[0], -1)
    while order.shape[1] > max(count, 1):
        drop = min(DROPPED_AT_ONCE, order.shape[1] - count)
        even, odd = order[:, ::2], order[:, 1::2]
        rows = similar.gather(1, even[..., None].expand(-1, -1, present))
        closest = rows.gather(2, odd[:, None].expand(-1, even.shape[1], -1)).amax(dim=-1)
        ranked = closest.sort(dim=-1, descending=True, stable=True).indices
        order = torch.cat((even.gather(1, ranked[:, drop:]), odd), dim=1)
    return order[:, :count]


def duplicates_macs(present: int, width: int) -> int:
    return present**2 * width
