"""Prefill in two passes, for methods that teach a few extra tokens to stand for the picture.

The compression tokens read the text before and every visual token; afterwards only their cache
entries remain, and the rest of the prompt reads those and itself. Rotary ids persist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tokprof.engine.attention import causal_mask
from tokprof.engine.cache import KVCache
from tokprof.engine.prefill import Prefilled
from tokprof.engine.stream import TokenStream
from tokprof.models.adapter import Adapter, Prepared
from tokprof.models.decoder import Decoder
from tokprof.policies.base import Policy

if TYPE_CHECKING:
    from tokprof.measure.clock import Clock


def compress_then_read(
    adapter: Adapter, policy: Policy, prepared: Prepared, clock: Clock, visual: Tensor, room: int, *, attention: str
) -> Prefilled:
    decoder, scene = adapter.decoder, prepared.scene
    extra = policy.compress_tokens(scene)
    cut = scene.text - scene.text_after + scene.layout.count  # behind the last visual token
    clock.enter("compress")
    embedded = decoder.embed(prepared.input_ids)
    embedded = embedded.index_copy(1, prepared.visual_index, visual.to(embedded.dtype))
    hidden = torch.cat((embedded[:, :cut], _compression_tokens(adapter, prepared, extra)), dim=1)
    following = prepared.positions[..., cut : cut + 1] + torch.arange(extra, device=hidden.device)
    positions = torch.cat((prepared.positions[..., :cut], following), dim=-1)
    cache = KVCache(decoder.depth, room + scene.text_after)
    mask = causal_mask(hidden.shape[1], 0, hidden) if attention == "eager" else None
    _through(decoder, hidden, positions, cache, mask)
    cache.keep(slice(cut, cut + extra))

    clock.enter("prefill")
    hidden = embedded[:, cut:]
    positions = prepared.positions[..., cut:] + extra
    aligned = attention == "flash_attention_2"  # it counts causality from the last key back, and takes no mask
    mask = causal_mask(hidden.shape[1], extra, hidden) if hidden.shape[1] > 1 and not aligned else None
    hidden, rotary = _through(decoder, hidden, positions, cache, mask)
    logits = decoder.logits(hidden[:, -1:])[:, 0]
    places = torch.arange(extra + hidden.shape[1], device=hidden.device).expand(hidden.shape[0], -1)
    stream = TokenStream(
        hidden=hidden,
        positions=positions,
        rotary=rotary,
        candidates=places[:, :extra],
        fixed=places[:, :0],
        text=places[:, extra:],
        origin=torch.full_like(places[:, :extra], -1),
        next_position=prepared.next_position + extra,
    )
    return Prefilled(stream, cache, logits, "persistent", [extra] * decoder.depth)


def _compression_tokens(adapter: Adapter, prepared: Prepared, count: int) -> Tensor:
    """The vocabulary's last entry stands in for the token that training would add."""
    last = adapter.shape.decoder.vocab - 1
    return adapter.decoder.embed(torch.full_like(prepared.input_ids[:, :1], last).expand(-1, count))


def _through(
    decoder: Decoder, hidden: Tensor, positions: Tensor, cache: KVCache, mask: Tensor | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    rotary = decoder.rotary(positions, hidden)
    for layer in range(decoder.depth):
        hidden = decoder.run_layer(layer, hidden, rotary, cache, mask)
    return hidden, rotary
