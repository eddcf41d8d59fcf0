"""The views that policies look through inside the decoder and while decoding, over a real model."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from tokprof.engine.attention import grouped_scores, mean_attention
from tokprof.engine.cache import KVCache
from tokprof.engine.stream import TokenStream, take
from tokprof.models.decoder import Decoder, Rotary
from tokprof.policies.base import CacheView, DecoderView, Need, Policy, Rows, Scene


class LiveDecoderView(DecoderView):
    """`before`: the states that entered the layer that has just run (or the last side layer)."""

    def __init__(
        self,
        policy: Policy,
        scene: Scene,
        stop: int,
        stream: TokenStream,
        decoder: Decoder,
        memory: dict[str, Any],
        previous: tuple[int, Tensor, KVCache] | None,
        official: bool = False,
    ) -> None:
        super().__init__(policy.needs | policy.optional)
        self.scene, self.stop, self.memory = scene, stop, memory
        self._stream, self._decoder, self._previous, self._official = stream, decoder, previous, official
        self.tokens = stream.visual_tokens()
        self._next_keys: Tensor | None = None

    @property
    def before(self) -> Tensor:
        self._use(Need.HIDDEN_BEFORE)
        return self._stream.visual_tokens(self._ran()[1])

    @property
    def prompt(self) -> Tensor:
        self._use(Need.PROMPT_EMBEDDINGS)
        return take(self._stream.hidden, self._instruction())

    def _ran(self) -> tuple[int, Tensor, KVCache]:
        assert self._previous is not None, "nothing has run before stop 0: ask for layer='next'"
        return self._previous

    def _instruction(self) -> Tensor:
        text = self._stream.text
        return text[:, text.shape[1] - self.scene.text_after :]

    def _row_places(self, rows: Rows) -> Tensor:
        if rows == "last":
            return self._stream.text[:, -1:]
        return self._instruction() if rows == "instruction" else self._stream.candidates

    def attention(
        self,
        rows: Rows,
        *,
        layer: Literal["previous", "next"],
        weights: Tensor | None = None,
        columns: Literal["visual", "instruction"] = "visual",
        mean_heads: bool = True,
        over: Literal["sequence", "columns"] = "sequence",
    ) -> Tensor:
        self._use(Need.COLUMN_ATTENTION if rows == "visual" else Need.ROW_ATTENTION)
        places = self._row_places(rows)
        index, entering, keys = self._projected(layer)
        if self._official:  # every row of the matrix, as the official code has it: to show what that costs
            return self._whole_matrix(index, entering, keys, places, columns, weights, mean_heads, over)
        rotary = _rows_of(self._stream.rotary, places)
        queries = self._decoder.queries(index, take(entering, places), rotary)
        return mean_attention(
            queries,
            keys,
            self._decoder.scale(index),
            row_places=None if rows == "last" else places,
            columns=self._columns(columns),
            weights=weights,
            mean_heads=mean_heads,
            over=over,
        )

    def _columns(self, columns: str) -> Tensor:
        return self._stream.candidates if columns == "visual" else self._instruction()

    def _projected(self, layer: Literal["previous", "next"]) -> tuple[int, Tensor, Tensor]:
        """(layer index, states entering it, its rotated keys)"""
        if layer == "previous":
            index, entering, cache = self._ran()
            return index, entering, cache.keys(index)
        index, entering = self.stop, self._stream.hidden
        if self._next_keys is None:  # attention and keys of the same layer share them
            self._next_keys = self._decoder.keys(index, entering, self._stream.rotary)
        return index, entering, self._next_keys

    def _whole_matrix(
        self,
        index: int,
        entering: Tensor,
        keys: Tensor,
        places: Tensor,
        columns: str,
        weights: Tensor | None,
        mean_heads: bool,
        over: str,
    ) -> Tensor:
        queries = self._decoder.queries(index, entering, self._stream.rotary)
        scores = grouped_scores(queries, keys) * self._decoder.scale(index)
        length = scores.shape[-1]
        later = torch.ones(length, length, dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
        rows = scores.gather(2, places[:, None, :, None].expand(-1, scores.shape[1], -1, length)).float()
        chosen = self._columns(columns)[:, None, None].expand(-1, rows.shape[1], rows.shape[2], -1)
        if over == "columns":
            picked = rows.gather(3, chosen).softmax(dim=-1)
        else:
            picked = (
                scores.float().softmax(dim=-1).gather(2, places[:, None, :, None].expand_as(rows)).gather(3, chosen)
            )
        if weights is None:
            mean = picked.mean(dim=2)
        else:
            wide = weights if weights.dim() == 3 else weights[..., None]
            mean = (picked * wide[:, None].float()).sum(dim=2)
        return mean.mean(dim=1) if mean_heads else mean

    def decay(self, rows: Rows) -> Tensor:
        self._use(Need.COLUMN_ATTENTION if rows == "visual" else Need.ROW_ATTENTION)
        asking, asked = (
            self._decoder.rotated_ones(_rows_of(self._stream.rotary, places)).float()
            for places in (self._row_places(rows), self._stream.candidates)
        )
        return asking @ asked.transpose(1, 2) * self._decoder.scale(self.stop - 1)

    def keys(self, layer: Literal["previous", "next"]) -> Tensor:
        self._use(Need.DECODER_KEYS)
        keys = self._projected(layer)[2].mean(dim=1)  # (batch, sequence, head dim)
        return take(keys, self._stream.candidates)


def _rows_of(rotary: Rotary, places: Tensor) -> Rotary:
    return take(rotary[0], places), take(rotary[1], places)


class LiveCacheView(CacheView):
    """`entries`: (batch, visual) places of the visual tokens in the layer's cache."""

    def __init__(
        self,
        policy: Policy,
        step: int,
        queries: Tensor,
        keys: Tensor,
        scale: float,
        entries: Tensor,
        memory: dict[str, Any],
    ) -> None:
        super().__init__(policy.needs | policy.optional)
        self.step, self.visual, self.memory = step, int(entries.shape[1]), memory
        self._queries, self._keys, self._scale, self._entries = queries, keys, scale, entries

    def attention(self) -> Tensor:
        self._use(Need.DECODE_ATTENTION)
        return mean_attention(self._queries, self._keys, self._scale, row_places=None, columns=self._entries)
