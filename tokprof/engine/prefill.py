"""One pass over the prompt, layer by layer, asking the policy at its stops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tokprof.engine.attention import causal_mask
from tokprof.engine.cache import KVCache
from tokprof.engine.decoder_views import LiveDecoderView
from tokprof.engine.stream import Entering, Kept, TokenStream, enter, text_only, verify, whole
from tokprof.models.adapter import Adapter, Prepared
from tokprof.policies.base import Need, Policy, Positions

if TYPE_CHECKING:
    from tokprof.measure.clock import Clock


@dataclass
class Prefilled:
    """The cache, the first token's logits, and what was observed on the way."""

    stream: TokenStream
    cache: KVCache
    logits: Tensor  # (batch, vocabulary), at the last position
    positions: Positions
    per_layer: list[int] = field(default_factory=list)
    used: set[Need] = field(default_factory=set)
    memory: dict[str, Any] = field(default_factory=dict)


def position_mode(adapter: Adapter, policy: Policy) -> Positions:
    """Three-row rotary ids belong to a place in a picture: there they always persist."""
    return "persistent" if adapter.shape.rotary == "mrope" else policy.positions


class Prefill:
    """The state of one pass; `run` is the pass."""

    def __init__(
        self,
        adapter: Adapter,
        policy: Policy,
        prepared: Prepared,
        clock: Clock,
        room: int,
        *,
        checked: bool = False,
        eager: bool = False,
        official_scores: bool = False,
    ) -> None:
        self.adapter, self.decoder, self.policy, self.prepared, self.clock = (
            adapter,
            adapter.decoder,
            policy,
            prepared,
            clock,
        )
        self.scene = prepared.scene.seen_by(policy)
        self.mode = position_mode(adapter, policy)
        depth = self.decoder.depth
        acts = not policy.identity
        self.entry = policy.entry_layer(depth) if acts else 0
        self.stops = frozenset(policy.decoder_stops(depth)) if acts else frozenset[int]()
        self.side = tuple(policy.side_layers(depth)) if acts else ()
        self.cache = KVCache(depth, room)
        self.checked, self.eager, self.official = checked, eager, official_scores
        self._before: Tensor | None = None
        self._mask: Tensor | None = None
        self.used: set[Need] = set()
        self.memory: dict[str, Any] = {}
        self.per_layer: list[int] = []

    def run(self, visual: Tensor | Entering) -> Prefilled:
        self.clock.enter("prefill")
        stream = self._begin(visual)
        for layer in range(self.decoder.depth):
            if layer == self.entry and layer > 0:
                stream = self._inject(stream, visual)
            if layer in self.stops:
                self._ask(layer, stream)
            self.per_layer.append(stream.visual)
            self._before = stream.hidden if layer + 1 in self.stops else None
            stream.hidden = self.decoder.run_layer(
                layer, stream.hidden, stream.rotary, self.cache, self._causal(stream)
            )
        logits = self.decoder.logits(stream.hidden[:, -1:])[:, 0]
        return Prefilled(stream, self.cache, logits, self.mode, self.per_layer, self.used, self.memory)

    def _begin(self, visual: Tensor | Entering) -> TokenStream:
        if self.entry > 0:
            return text_only(self.prepared, self.decoder)
        return self._inject(None, visual)

    def _inject(self, stream: TokenStream | None, visual: Tensor | Entering) -> TokenStream:
        if isinstance(visual, Entering):
            renumber: Positions = "persistent" if self.entry or self.adapter.shape.rotary == "mrope" else "compacted"
            stream = stream or text_only(self.prepared, self.decoder)
            return enter(stream, visual, self.prepared, self.decoder, renumber)
        shown = self.policy.newlines == "candidates"
        if stream is None:
            return whole(self.prepared, self.decoder, visual, newlines_are_candidates=shown)
        every = self.prepared.visual_index.new_ones(visual.shape[1]).cumsum(0) - 1
        origin = every if shown else self.prepared.candidates
        entering = Entering(visual[:, origin], origin.expand(visual.shape[0], -1))
        if not shown and self.prepared.newlines.shape[0]:
            entering.fixed = visual[:, self.prepared.newlines]
            entering.fixed_origin = self.prepared.newlines.expand(visual.shape[0], -1)
        return enter(stream, entering, self.prepared, self.decoder, "persistent")

    def _ask(self, stop: int, stream: TokenStream) -> None:
        if not stream.candidates.shape[1]:
            return
        self.clock.enter("select")
        edit = self.policy.edit_decoder(self._view(stop, stream))
        if edit is not None:
            if self.checked:
                verify(edit, stream.visual_tokens(), may_drop_all=True)
            stream.apply(edit, self.mode, self.decoder)
            stream.kept.append(Kept(stop, stream.origin))
        self.clock.enter("prefill")

    def _view(self, stop: int, stream: TokenStream) -> LiveDecoderView:
        previous = None if stop == 0 or self._before is None else (stop - 1, self._before, self.cache)
        if self.side and stop == self.policy.side_stop(self.decoder.depth):
            previous = self._run_side_layers(stream)
        view = LiveDecoderView(
            self.policy, self.scene, stop, stream, self.decoder, self.memory, previous, self.official
        )
        view.used = self.used
        return view

    def _run_side_layers(self, stream: TokenStream) -> tuple[int, Tensor, KVCache]:
        """Layers beside the model's own, on a copy of the stream; only the last one's attention is read."""
        cache, hidden = KVCache(self.decoder.depth, 0), stream.hidden
        entering = hidden
        for layer in self.side:
            entering = hidden
            hidden = self.decoder.run_layer(layer, hidden, stream.rotary, cache, self._causal(stream))
        return self.side[-1], entering, cache

    def _causal(self, stream: TokenStream) -> Tensor | None:
        if not self.eager:
            return None
        if self._mask is None or self._mask.shape[-1] != stream.length:
            self._mask = causal_mask(stream.length, 0, stream.hidden)
        return self._mask


def finite(logits: Tensor) -> bool:
    return bool(torch.isfinite(logits).all())
