"""Attention scores for the rows a policy asks for, in chunks: never the n × n matrix."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

CHUNK_BYTES = 64 << 20  # of fp32 scores at a time


def mean_attention(
    queries: Tensor,
    keys: Tensor,
    scale: float,
    *,
    row_places: Tensor | None,
    columns: Tensor,
    weights: Tensor | None = None,
    mean_heads: bool = True,
    over: Literal["sequence", "columns"] = "sequence",
) -> Tensor:
    """Weighted mean over query rows of softmax attention, at the given columns.

    queries (batch, heads, rows, head dim), keys (batch, key heads, sequence, head dim), both rotated.
    `row_places` (batch, rows): each row's place in the sequence, for the causal mask; None where the
    rows see everything. `columns` (batch, columns) are places too. `weights` (batch, rows), or one per
    column too. Result (batch, columns), or (batch, heads, columns) without the mean over heads.
    """
    batch, heads, rows, _ = queries.shape
    if weights is None:
        weights = queries.new_full((batch, rows), 1.0 / rows, dtype=torch.float32)
    weights = weights.float()[:, None] if weights.dim() == 3 else weights.float()[:, None, :, None]
    total = queries.new_zeros((batch, heads, columns.shape[1]), dtype=torch.float32)
    chunk = max(1, CHUNK_BYTES // (4 * batch * heads * keys.shape[2]))
    for start in range(0, rows, chunk):
        part = slice(start, start + chunk)
        places = None if row_places is None else row_places[:, part]
        probabilities = _probabilities(queries[:, :, part], keys, scale, places, columns, over)
        total += (probabilities * weights[:, :, part]).sum(dim=2)
    return total.mean(dim=1) if mean_heads else total


def _probabilities(
    queries: Tensor, keys: Tensor, scale: float, places: Tensor | None, columns: Tensor, over: str
) -> Tensor:
    """(batch, heads, rows, columns), fp32."""
    scores = grouped_scores(queries, keys).float() * scale
    if places is not None:
        later = torch.arange(keys.shape[2], device=keys.device) > places[:, :, None]  # (batch, rows, sequence)
        scores = scores.masked_fill(later[:, None], float("-inf"))
    index = columns[:, None, None].expand(-1, scores.shape[1], scores.shape[2], -1)
    if over == "columns":
        return scores.gather(3, index).softmax(dim=-1)
    return scores.softmax(dim=-1).gather(3, index)


def grouped_scores(queries: Tensor, keys: Tensor) -> Tensor:
    """Products per query head, without repeating grouped keys: (batch, heads, rows, sequence)."""
    batch, heads, rows, head_dim = queries.shape
    key_heads = keys.shape[1]
    grouped = queries.reshape(batch, key_heads, heads // key_heads * rows, head_dim)
    return (grouped @ keys.transpose(2, 3)).reshape(batch, heads, rows, keys.shape[2])


def causal_mask(rows: int, past: int, like: Tensor) -> Tensor:
    """Additive (1, 1, rows, past + rows), for backends that do not know causality by themselves."""
    mask = like.new_full((rows, past + rows), torch.finfo(like.dtype).min)
    return mask.triu(diagonal=past + 1)[None, None]


@contextlib.contextmanager
def backend(attention: str) -> Iterator[None]:
    """`flash` without the flash-attn package: torch's own flash kernel, and the memory-efficient one where a method
    adds to the scores (merging in the tower, a second pass behind compressed tokens): no flash kernel takes a mask."""
    if attention != "flash-sdpa":
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
        yield
