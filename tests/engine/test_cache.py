"""The cache: lengths per layer, no copies per step, and pruned reading."""

from __future__ import annotations

import torch

from tokprof.engine.cache import KVCache


def entries(count: int, start: int = 0) -> torch.Tensor:
    """(1 sample, 2 heads, count, 1): the entry's number as its content."""
    return torch.arange(start, start + count, dtype=torch.float32)[None, None, :, None].expand(1, 2, -1, 1)


def test_each_layer_has_its_own_length_and_the_bytes_count_entries_only() -> None:
    cache = KVCache(depth=2, room=8)
    cache.update(entries(5), entries(5), 0)
    cache.update(entries(3), entries(3), 1)
    assert cache.lengths == (5, 3)
    assert cache.bytes == 2 * 2 * (5 + 3) * 4
    cache.update(entries(1, 5), entries(1, 5), 0)
    assert cache.lengths == (6, 3)
    assert cache.bytes == 2 * 2 * (6 + 3) * 4


def test_steps_write_into_one_buffer() -> None:
    cache = KVCache(depth=1, room=4)
    cache.update(entries(3), entries(3), 0)
    seen = [cache.update(entries(1, 3 + step), entries(1, 3 + step), 0)[0] for step in range(4)]
    assert len({keys.data_ptr() for keys in seen}) == 1, "the buffer moved: a step copied the cache"
    assert seen[-1][0, 0, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_the_buffer_grows_beyond_its_room() -> None:
    cache = KVCache(depth=1, room=1)
    cache.update(entries(2), entries(2), 0)
    for step in range(3):
        keys, _ = cache.update(entries(1, 2 + step), entries(1, 2 + step), 0)
    assert keys[0, 1, :, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_selection_is_read_from_its_layer_on_and_the_newest_token_is_always_there() -> None:
    cache = KVCache(depth=2, room=4)
    for layer in (0, 1):
        cache.update(entries(4), entries(4), layer)
    cache.select(1, torch.tensor([[0, 2]]))
    everything, _ = cache.update(entries(1, 9), entries(1, 9), 0)
    selected, _ = cache.update(entries(1, 9), entries(1, 9), 1)
    assert everything[0, 0, :, 0].tolist() == [0, 1, 2, 3, 9]
    assert selected[0, 0, :, 0].tolist() == [0, 2, 9]
    assert cache.lengths == (5, 5), "selecting forgets nothing"


def test_keep_forgets_the_rest() -> None:
    cache = KVCache(depth=1, room=2)
    cache.update(entries(6), entries(6), 0)
    cache.keep(slice(2, 4))
    assert cache.keys(0)[0, 0, :, 0].tolist() == [2, 3]
    keys, _ = cache.update(entries(1, 7), entries(1, 7), 0)
    assert keys[0, 0, :, 0].tolist() == [2, 3, 7]
