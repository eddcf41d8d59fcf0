"""The forward pass of training: many questions share one pass over their picture.

Hugging Face's own modules compute everything; only the attention is laid out anew. Each question
sees the picture and itself, so a packed sequence gives every question the logits it has alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LlavaNextForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from tokprof.demo.batches import prefix_tokens


@dataclass(frozen=True)
class Seen:
    """What the vision tower makes of crops."""

    patches: Tensor  # (crops, 144, width), what the projector reads
    pooled: Tensor | None  # (crops, width), the CLS token after the last layer


def see(model: LlavaNextForConditionalGeneration, pixels: Tensor, pooled: bool) -> Seen:
    """Run the tower on `(crops, 3, 96, 96)`; its last layer only where the CLS is wanted."""
    tower = model.model.vision_tower
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, attention_mask=None)
    patches = hidden[:, 1:]
    if not pooled:
        return Seen(patches, None)
    last = tower.encoder.layers[-1](hidden, attention_mask=None)
    return Seen(patches, tower.post_layernorm(last[:, 0]))


def lay_out(model: LlavaNextForConditionalGeneration, patches: Tensor, crops: int) -> Tensor:
    """Projected visual tokens in the decoder's order: overview, tile rows, newline after each."""
    features: Tensor = model.model.multi_modal_projector(patches)
    features = torch.unflatten(features, 0, (-1, crops))  # (batch, crops, 144, width)
    overview, tiles = features[:, 0], features[:, 1:]
    if crops == 1:
        return overview
    side = int(overview.shape[1] ** 0.5)
    rows = torch.unflatten(torch.unflatten(tiles, 2, (side, side)), 1, (2, 2))
    rows = rows.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)  # (batch, 24, 24, width)
    newline = model.model.image_newline.expand(*rows.shape[:2], 1, -1).to(rows)
    return torch.cat([overview, torch.cat([rows, newline], dim=2).flatten(1, 2)], dim=1)


def answer_hidden(model: LlavaNextForConditionalGeneration, visual: Tensor, places: Tensor, tokens: Tensor) -> Tensor:
    """Last hidden states of packed questions, `(batch, questions, tokens, width)`.

    `places`: the place of each visual token among all visual tokens, `(batch, present)`, and in
    its last column the number of places, where the questions begin.
    """
    language = model.model.language_model
    batch, questions, length = tokens.shape
    front = torch.tensor(prefix_tokens(), device=tokens.device)
    offset = len(front)
    prefix = language.embed_tokens(front).expand(batch, -1, -1)
    text = language.embed_tokens(tokens).flatten(1, 2)
    hidden: Tensor = torch.cat([prefix, visual.to(prefix), text], dim=1)
    picture = offset + visual.shape[1]
    start = offset + places[:, -1:, None] + torch.arange(length, device=tokens.device)
    positions = torch.cat(
        [
            torch.arange(offset, device=tokens.device).expand(batch, -1),
            offset + places[:, :-1],
            start.expand(-1, questions, -1).flatten(1, 2),
        ],
        dim=1,
    )
    rotary = language.rotary_emb(hidden, positions)
    for layer in language.layers:
        hidden = hidden + _attend(layer.self_attn, layer.input_layernorm(hidden), rotary, picture, questions)
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    hidden = language.norm(hidden[:, picture:])
    return torch.unflatten(hidden, 1, (questions, length))


def _attend(
    attention: Any,
    hidden: Tensor,
    rotary: tuple[Tensor, Tensor],
    picture: int,
    questions: int,
) -> Tensor:
    """Causal attention within the picture; each question attends to the picture and itself."""
    split = (hidden.shape[0], hidden.shape[1], -1, attention.head_dim)
    query, key, value = (
        project(hidden).view(split).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )  # (batch, heads, tokens, head width)
    cosine, sine = (part.to(value.dtype) for part in rotary)
    query, key = apply_rotary_pos_emb(query, key, cosine, sine)
    seen = _attend_picture(query[:, :, :picture], key[:, :, :picture], value[:, :, :picture])
    asked = _attend_questions(query, key, value, picture, questions)
    mixed = torch.cat([seen, asked], dim=2).transpose(1, 2).flatten(2)
    projected: Tensor = attention.o_proj(mixed)
    return projected


def _attend_picture(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Plain causal attention: on a CPU its backward pass beats the fused kernel's."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
    weights: Tensor = scores.add_(_not_later(scores)).softmax(dim=3, dtype=value.dtype)
    return weights @ value


def _not_later(scores: Tensor) -> Tensor:
    """Minus infinity above the diagonal, zero elsewhere."""
    return torch.full_like(scores[0, 0], float("-inf")).triu(1)


def _attend_questions(query: Tensor, key: Tensor, value: Tensor, picture: int, questions: int) -> Tensor:
    asking = query[:, :, picture:] * query.shape[-1] ** -0.5
    to_picture = asking @ key[:, :, :picture].transpose(2, 3)
    own_query, own_key, own_value = (
        torch.unflatten(part, 2, (questions, -1)) for part in (asking, key[:, :, picture:], value[:, :, picture:])
    )
    to_own = own_query @ own_key.transpose(3, 4)  # (batch, heads, questions, length, length)
    to_own = (to_own + _not_later(to_own[0])).flatten(2, 3)
    weights = torch.cat([to_picture, to_own], dim=3).softmax(dim=3, dtype=value.dtype)
    on_picture, on_own = weights[..., :picture], weights[..., picture:]
    from_own = (torch.unflatten(on_own, 2, (questions, -1)) @ own_value).flatten(2, 3)
    answered: Tensor = on_picture @ value[:, :, :picture] + from_own
    return answered
