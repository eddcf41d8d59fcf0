"""Where merged tokens go in the decoder: behind the kept ones, unless rotary ids must persist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokprof.policies.base import DecoderView, Edit

if TYPE_CHECKING:
    from torch import Tensor


def kept_then_merged(view: DecoderView, kept: Tensor, centres: Tensor, merged: Tensor) -> Edit:
    """Kept tokens (batch, kept) ascending, then merged ones; `centres`: the token each of them grew from.

    Renumbered ids make a token's place free to choose, and the official codes append. Where ids are
    places in a picture (M-RoPE), a merged token stays where its centre was.
    """
    import torch

    values = view.tokens.gather(1, kept[..., None].expand(-1, -1, view.tokens.shape[-1]))
    keep = torch.cat((kept, centres), dim=1)
    values = torch.cat((values, merged.to(values.dtype)), dim=1)
    if view.scene.model.rotary != "mrope":
        return Edit(keep, values, reordered=True)
    ordered = keep.sort(dim=1)
    return Edit(ordered.values, values.gather(1, ordered.indices[..., None].expand_as(values)))


def left_out(present: int, kept: Tensor) -> Tensor:
    """The other indices (batch, present − kept), ascending."""
    import torch

    dropped = torch.ones(kept.shape[0], present, dtype=torch.bool, device=kept.device).scatter(1, kept, False)
    return dropped.int().sort(dim=1, descending=True, stable=True).indices[:, : present - kept.shape[1]]
