"""Greedy steps on the cache that prefill left; the end of sequence is ignored unless somebody asks for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tokprof.engine.decoder_views import LiveCacheView
from tokprof.engine.prefill import Prefilled
from tokprof.models.adapter import Adapter
from tokprof.models.decoder import Decoder, Rotary
from tokprof.policies.base import Policy

if TYPE_CHECKING:
    from tokprof.measure.clock import Clock


def decode(
    adapter: Adapter, policy: Policy, prefilled: Prefilled, clock: Clock, new_tokens: int, ends: Collection[int] = ()
) -> Tensor:
    """(batch, new tokens); the first one is prefill's, each further one costs a step.

    With `ends`, the ids of ending tokens, no further step once every sample has one (this waits for the device).
    """
    decoder = adapter.decoder
    token = prefilled.logits.argmax(dim=-1, keepdim=True)
    tokens = [token]
    if new_tokens > 1:
        clock.enter("first_decode")
        tables = _RotaryTables(decoder, prefilled, new_tokens - 1, token)
        pruner = _CachePruner(decoder, policy, prefilled)
    for step in range(new_tokens - 1):
        if ends and _all_ended(tokens, ends):
            break
        if step == 1:
            clock.enter("decode")
        hidden = decoder.embed(token)
        for layer in range(decoder.depth):
            if layer == pruner.layer:
                pruner.ask(step)
            rotary = tables.at(layer, step)
            pruner.before = (hidden, rotary)
            hidden = decoder.run_layer(layer, hidden, rotary, prefilled.cache, None)
        token = decoder.logits(hidden[:, -1]).argmax(dim=-1, keepdim=True)
        tokens.append(token)
    return torch.cat(tokens, dim=1)


def _all_ended(tokens: Sequence[Tensor], ends: Collection[int]) -> bool:
    generated = torch.cat(list(tokens), dim=1)
    ended = torch.isin(generated, generated.new_tensor(list(ends)))
    return bool(ended.any(dim=1).all())


class _RotaryTables:
    """Rotary tables of all steps at once; layers with renumbered positions have their own start."""

    def __init__(self, decoder: Decoder, prefilled: Prefilled, steps: int, like: Tensor) -> None:
        compacted = prefilled.positions == "compacted"
        lengths = prefilled.cache.lengths
        self._starts = list(lengths) if compacted else [prefilled.stream.next_position] * len(lengths)
        batch, hidden = like.shape[0], decoder.embed(like)
        rows = prefilled.stream.positions.shape[:-2]  # (3,) with three-row rotary ids
        self._tables: dict[int, Rotary] = {}
        for start in set(self._starts):
            positions = torch.arange(start, start + steps, device=like.device).expand(*rows, batch, -1)
            self._tables[start] = decoder.rotary(positions, hidden)

    def at(self, layer: int, step: int) -> Rotary:
        cos, sin = self._tables[self._starts[layer]]
        return cos[:, step : step + 1], sin[:, step : step + 1]


class _CachePruner:
    """Asks a policy, at every step, which visual entries the deeper layers may read."""

    def __init__(self, decoder: Decoder, policy: Policy, prefilled: Prefilled) -> None:
        self.layer = None if policy.identity else policy.cache_layer(decoder.depth)
        self.before: tuple[Tensor, Rotary] | None = None
        self._decoder, self._policy, self._prefilled = decoder, policy, prefilled
        stream = prefilled.stream
        self._visual = stream.candidates
        self._always = torch.cat((stream.text, stream.fixed), dim=1)
        self._memory: dict[str, Any] = {}

    def ask(self, step: int) -> None:
        assert self.layer is not None and self.before is not None
        cache, above = self._prefilled.cache, self.layer - 1
        hidden, rotary = self.before
        queries = self._decoder.queries(above, hidden, rotary)
        view = LiveCacheView(
            self._policy,
            step,
            queries,
            cache.keys(above),
            self._decoder.scale(above),
            self._visual,
            self._memory,
        )
        kept = self._policy.edit_cache(view)
        self._prefilled.used |= view.used
        if kept is None:
            cache.select(self.layer, None)
            return
        generated = torch.arange(cache.length(above) - step - 1, cache.length(above) - 1, device=kept.device)
        entries = (self._always, self._visual.gather(1, kept), generated.expand(kept.shape[0], -1))
        cache.select(self.layer, torch.cat(entries, dim=1).sort(dim=1).values)
