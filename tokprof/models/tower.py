"""CLIP's and SigLIP's vision transformers, block by block, over Hugging Face's own modules.

A block runs as Hugging Face wrote it, except where a policy merges tokens inside it, and after a
merge: then its parts are composed here, with "proportional attention" (ToMe, arXiv 2210.09461,
eq. 1: a token that stands for s patches gets log s added to its attention scores).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokprof.models.adapter import EditTower, VisionStates
from tokprof.policies.base import Edit

CHUNK = 1 << 25  # attention probabilities held at once


@dataclass
class _Merging:
    """Tokens (class token first, if there is one) and, once merged, how many patches each stands for."""

    hidden: Tensor  # (tiles, tokens, width)
    sizes: Tensor | None = None  # (tiles, patches present)


class Tower:
    def __init__(self, module: nn.Module, *, cls_token: bool, layers_run: int) -> None:
        inner: Any = getattr(module, "vision_model", module)
        self._embeddings = inner.embeddings
        self._first_norm: nn.Module | None = getattr(inner, "pre_layrnorm", None)
        self.blocks: Any = inner.encoder.layers
        self.first = int(cls_token)  # tokens in front of the patches
        self.layers_run = layers_run

    def run(
        self, pixels: Tensor, watch: Collection[int], stops: Collection[int], edit: EditTower | None
    ) -> VisionStates:
        """(tiles, 3, side, side) → features after `layers_run` blocks; later blocks only if watched."""
        hidden = self._embeddings(pixels)
        if self._first_norm is not None:
            hidden = self._first_norm(hidden)
        state = _Merging(hidden)
        states = VisionStates(features=hidden)
        last = max(self.layers_run, max(watch, default=0))
        for block in range(last + 1):
            if block == self.layers_run:
                self._leave(state, states)
            if block in watch:
                states.inputs[block] = state.hidden
            if block == last:
                break
            asked = edit if edit is not None and block in stops else None
            if asked is None and state.sizes is None:
                state.hidden = _first(self.blocks[block](state.hidden, attention_mask=None))
            else:
                self._run_merging(block, state, asked)
        return states

    def _leave(self, state: _Merging, states: VisionStates) -> None:
        states.features = state.hidden[:, self.first :]
        states.cls = state.hidden[:, 0] if self.first else None
        states.merged = state.sizes is not None

    def _run_merging(self, block: int, state: _Merging, edit: EditTower | None) -> None:
        module = self.blocks[block]
        queries, keys, values = self._projected(block, state.hidden)
        bias = None if state.sizes is None else self._log_sizes(state.sizes).to(queries.dtype)
        attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        state.hidden = state.hidden + module.self_attn.out_proj(attended.transpose(1, 2).flatten(2))
        if edit is not None:
            tokens = state.hidden[:, self.first :]
            sizes = state.sizes if state.sizes is not None else tokens.new_ones(tokens.shape[:2])
            answer = edit(block, tokens, lambda: keys[:, :, self.first :].mean(dim=1), sizes)
            if answer is not None:
                self._merge(state, tokens, sizes, answer)
        state.hidden = state.hidden + module.mlp(module.layer_norm2(state.hidden))

    def _merge(self, state: _Merging, tokens: Tensor, sizes: Tensor, edit: Edit) -> None:
        assert edit.keep is not None, "a tower cannot run without tokens"
        kept = edit.values if edit.values is not None else tokens.gather(1, _wide(edit.keep, tokens))
        state.sizes = edit.sizes if edit.sizes is not None else sizes.gather(1, edit.keep)
        state.hidden = torch.cat((state.hidden[:, : self.first], kept), dim=1)

    def _log_sizes(self, sizes: Tensor) -> Tensor:
        """(tiles, 1, 1, tokens); the class token stands for itself."""
        return functional.pad(sizes.log(), (self.first, 0))[:, None, None]

    def _projected(self, block: int, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of a block, (tiles, heads, tokens, head dim) each."""
        module = self.blocks[block]
        normed = module.layer_norm1(hidden)
        attention = module.self_attn
        return (
            self._heads(attention, attention.q_proj(normed)),
            self._heads(attention, attention.k_proj(normed)),
            self._heads(attention, attention.v_proj(normed)),
        )

    @staticmethod
    def _heads(attention: Any, projected: Tensor) -> Tensor:
        return split_heads(projected, attention.head_dim)

    def cls_attention(self, states: VisionStates, block: int, *, logits: bool) -> Tensor:
        """(tiles, heads, patches): one row, from one block's queries and keys."""
        module = self.blocks[block]
        normed = module.layer_norm1(states.inputs[block])
        queries = self._heads(module.self_attn, module.self_attn.q_proj(normed[:, :1]))
        keys = self._heads(module.self_attn, module.self_attn.k_proj(normed))
        scores = (queries @ keys.transpose(2, 3)).squeeze(2) * module.self_attn.scale
        row: Tensor = scores if logits else scores.float().softmax(dim=-1).to(scores.dtype)
        return row[..., self.first :]

    def received_attention(self, states: VisionStates, block: int) -> Tensor:
        """(tiles, patches): mean over heads and over the patches that ask."""
        module = self.blocks[block]
        normed = module.layer_norm1(states.inputs[block])
        queries = self._heads(module.self_attn, module.self_attn.q_proj(normed[:, self.first :]))
        keys = self._heads(module.self_attn, module.self_attn.k_proj(normed))
        received = mean_received(queries, keys, module.self_attn.scale)
        return received[:, self.first :]

    def whole_attention(self, states: VisionStates, block: int) -> Tensor:
        """(tiles, heads, tokens, tokens): the map that `output_attentions=True` hands out, to show what it costs."""
        queries, keys, _ = self._projected(block, states.inputs[block])
        scores = (queries @ keys.transpose(2, 3)) * self.blocks[block].self_attn.scale
        probabilities: Tensor = scores.float().softmax(dim=-1).to(scores.dtype)
        return probabilities

    def patch_keys(self, states: VisionStates, block: int) -> Tensor:
        """(tiles, patches, width), bias included, heads side by side."""
        module = self.blocks[block]
        keys: Tensor = module.self_attn.k_proj(module.layer_norm1(states.inputs[block][:, self.first :]))
        return keys


def split_heads(projected: Tensor, head_dim: int) -> Tensor:
    """(batch, tokens, width) → (batch, heads, tokens, head dim)."""
    return projected.view(*projected.shape[:2], -1, head_dim).transpose(1, 2)


def mean_received(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Mean over heads and queries of softmax attention, (batch, keys) in fp32, never the whole matrix."""
    batch, heads, asking, _ = queries.shape
    length = keys.shape[2]
    rows = max(1, min(asking, CHUNK // max(1, batch * heads * length)))
    total = keys.new_zeros((batch, length), dtype=torch.float32)
    for first in range(0, asking, rows):
        part = queries[:, :, first : first + rows]
        scores = (part @ keys.transpose(2, 3)).float() * scale
        total += scores.softmax(dim=-1).sum(dim=(1, 2))
    return total / (heads * asking)


def _wide(indices: Tensor, like: Tensor) -> Tensor:
    return indices[..., None].expand(-1, -1, like.shape[-1])


def _first(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
