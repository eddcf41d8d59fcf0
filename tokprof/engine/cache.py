"""Keys and values per layer, each layer with a length of its own.

Prefill leaves its tensors as they are; the first decode step moves them once into buffers with room
for all steps, so that no step copies the cache (Hugging Face's DynamicCache copies it at each).
"""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """What Hugging Face's attention layers call as `past_key_values`: only `update` is used."""

    def __init__(self, depth: int, room: int) -> None:
        self._keys: list[Tensor | None] = [None] * depth
        self._values: list[Tensor | None] = [None] * depth
        self._lengths = [0] * depth
        self._room = room
        self._selection: tuple[int, Tensor] | None = None

    def update(self, key: Tensor, value: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Add (batch, heads, new, head dim) and return everything the layer may attend to."""
        if self._keys[layer] is None:
            self._keys[layer], self._values[layer] = key, value
            self._lengths[layer] = key.shape[2]
            return key, value
        self._make_room(layer, key.shape[2])
        keys, values = self._keys[layer], self._values[layer]
        assert keys is not None and values is not None
        start, end = self._lengths[layer], self._lengths[layer] + key.shape[2]
        keys[:, :, start:end] = key
        values[:, :, start:end] = value
        self._lengths[layer] = end
        return self._read(keys, end, layer), self._read(values, end, layer)

    def keys(self, layer: int) -> Tensor:
        """(batch, key heads, length, head dim)"""
        keys = self._keys[layer]
        assert keys is not None, f"layer {layer} has not run"
        return keys[:, :, : self._lengths[layer]]

    def length(self, layer: int) -> int:
        return self._lengths[layer]

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(self._lengths)

    @property
    def bytes(self) -> int:
        """Of the entries, not of the room reserved for more."""
        total = 0
        for layer, keys in enumerate(self._keys):
            if keys is not None:
                batch, heads, _, head_dim = keys.shape
                total += 2 * batch * heads * self._lengths[layer] * head_dim * keys.element_size()
        return total

    def select(self, first_layer: int, entries: Tensor | None) -> None:
        """From `first_layer` on, `update` returns only these entries (batch, kept) and the newest token."""
        self._selection = None if entries is None else (first_layer, entries)

    def keep(self, entries: slice) -> None:
        """Forget all but these entries, in every layer."""
        for layer, (keys, values) in enumerate(zip(self._keys, self._values, strict=True)):
            assert keys is not None and values is not None
            self._keys[layer], self._values[layer] = keys[:, :, entries].clone(), values[:, :, entries].clone()
            self._lengths[layer] = len(range(*entries.indices(self._lengths[layer])))

    def _make_room(self, layer: int, new: int) -> None:
        keys, values = self._keys[layer], self._values[layer]
        assert keys is not None and values is not None
        length = self._lengths[layer]
        if keys.shape[2] >= length + new:
            return
        batch, heads, _, head_dim = keys.shape
        size = (batch, heads, length + max(new, self._room), head_dim)
        for store, old in ((self._keys, keys), (self._values, values)):
            roomy = torch.empty(size, dtype=old.dtype, device=old.device)
            roomy[:, :, :length] = old[:, :, :length]
            store[layer] = roomy

    def _read(self, stored: Tensor, end: int, layer: int) -> Tensor:
        if self._selection is None or layer < self._selection[0]:
            return stored[:, :, :end]
        entries = self._selection[1]
        index = entries[:, None, :, None].expand(-1, stored.shape[1], -1, stored.shape[3])
        return torch.cat((stored.gather(2, index), stored[:, :, end - 1 : end]), dim=2)
