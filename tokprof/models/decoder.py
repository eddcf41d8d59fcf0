"""Hugging Face's decoder layers, one at a time, and the projections that attention scores need."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from tokprof.engine.cache import KVCache

Rotary = tuple[Tensor, Tensor]


class Decoder:
    """Over `language_model` (embedding, layers, norm, rotary tables) and the language-model head.

    Works for every family whose layers take `position_embeddings` and have `self_attn.q_proj` and
    `k_proj`: Llama, Mistral, Qwen2 and Qwen2-VL (whose rotary module folds three position rows).
    """

    def __init__(self, language_model: Any, head: nn.Module) -> None:
        self._model = language_model
        self.head = head
        self.layers: Any = self._model.layers
        attention = self.layers[0].self_attn
        self._rotate = sys.modules[type(attention).__module__].apply_rotary_pos_emb
        self.head_dim: int = attention.head_dim
        self.heads: int = attention.q_proj.out_features // self.head_dim
        self.kv_heads: int = attention.k_proj.out_features // self.head_dim

    @property
    def depth(self) -> int:
        return len(self.layers)

    def embed(self, input_ids: Tensor) -> Tensor:
        embedded: Tensor = self._model.embed_tokens(input_ids)
        return embedded

    def rotary(self, positions: Tensor, like: Tensor) -> Rotary:
        """(cos, sin), each (batch, sequence, head dim)."""
        cos, sin = self._model.rotary_emb(like, positions)
        return cos, sin

    def run_layer(self, layer: int, hidden: Tensor, rotary: Rotary, cache: KVCache, mask: Tensor | None) -> Tensor:
        output = self.layers[layer](
            hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=cache, use_cache=True
        )
        ran: Tensor = output[0] if isinstance(output, tuple) else output
        return ran

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, vocabulary) of the given positions."""
        logits: Tensor = self.head(self._model.norm(hidden))
        return logits

    def queries(self, layer: int, hidden: Tensor, rotary: Rotary) -> Tensor:
        """(batch, heads, rows, head dim), rotated, for hidden states that enter the layer."""
        module = self.layers[layer]
        projected = self._split(module.self_attn.q_proj(module.input_layernorm(hidden)))
        return self._turn(projected, rotary)

    def keys(self, layer: int, hidden: Tensor, rotary: Rotary) -> Tensor:
        """(batch, key heads, rows, head dim), rotated."""
        module = self.layers[layer]
        projected = self._split(module.self_attn.k_proj(module.input_layernorm(hidden)))
        return self._turn(projected, rotary)

    def rotated_ones(self, rotary: Rotary) -> Tensor:
        """A vector of ones at each place, rotated: (batch, rows, head dim). Their products weaken with distance."""
        cos = rotary[0]
        return self._turn(torch.ones_like(cos)[:, None], rotary)[:, 0]

    def scale(self, layer: int) -> float:
        return float(self.layers[layer].self_attn.scaling)

    def _split(self, projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:-1], -1, self.head_dim).transpose(1, 2)

    def _turn(self, states: Tensor, rotary: Rotary) -> Tensor:
        turned: Tensor = self._rotate(states, states[:, :1], *rotary)[0]
        return turned

    def parameters_dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.layers[0].self_attn.q_proj.weight.dtype
        return dtype
