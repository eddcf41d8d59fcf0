"""Bipartite matching: ToMe's merging and VisPruner's removal of duplicates, against slow readings."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.policies.views import FakeImageView, FakeVisionView, anyres, noise, single, video
from tokprof import policies
from tokprof.errors import ParameterError, UnsupportedError
from tokprof.policies.base import Scene
from tokprof.policies.bipartite import match_halves, without_duplicates
from tokprof.policies.tome import merged_sizes
from tokprof.shapes import Block, VisualLayout


def cosines(features: Tensor) -> list[list[float]]:
    rows = features.double()
    return [[float(a @ b / (a.norm() * b.norm())) for b in rows] for a in rows]


def slow_distinct(features: Tensor, count: int) -> list[int]:
    """VisPruner §3.3: lists of indices, most important first."""
    similar, order = cosines(features), list(range(len(features) if count else 0))
    while len(order) > count:
        drop = min(8, len(order) - count)
        even, odd = order[::2], order[1::2]
        closest = {a: max(similar[a][b] for b in odd) for a in even}
        order = sorted(even, key=lambda a: -closest[a])[drop:] + odd
    return order


@pytest.mark.parametrize(("present", "count"), [(30, 12), (31, 12), (30, 1), (9, 9), (5, 0), (547, 29)])
def test_distinct_tokens_agree_with_the_slow_reading(present: int, count: int) -> None:
    """Odd lengths too, at which the released code raises (T = 58 leaves 547)."""
    if present > 100:
        features = noise(1, present, 4)
        assert len(set(without_duplicates(features, count)[0].tolist())) == count
        return
    features = noise(2, present, 4)
    found = without_duplicates(features, count)
    assert found.tolist() == [slow_distinct(sample, count) for sample in features]


def test_a_duplicate_goes_first() -> None:
    features = torch.eye(4)[None, [0, 1, 2, 0, 3]]  # the token at place 3 repeats the one at place 0
    assert sorted(without_duplicates(features, 4)[0].tolist()) == [1, 2, 3, 4]


@pytest.mark.parametrize("scene", [single(side=6), anyres(side=4, top=1, batch=2)], ids=["picture", "tiles"])
@pytest.mark.parametrize("important", [0.0, 0.3, 1.0])
def test_vispruner_agrees_with_the_slow_reading(scene: Scene, important: float) -> None:
    policy: Any = policies.build("vispruner", keep=0.4, important=important)
    view = FakeImageView(policy, scene)
    kept, saliency, tiles = policy.edit_image(view).keep, view.saliency(), view.tile.tolist()
    for sample in range(scene.batch):
        expected: list[int] = []
        for tile in set(tiles):
            own = [place for place in range(len(tiles)) if tiles[place] == tile]
            ranked = sorted(own, key=lambda place: -float(saliency[sample, place]))
            first, rest = policy.split(len(own))
            expected += ranked[:first]
            others = ranked[first:]
            expected += [others[index] for index in slow_distinct(view._features[sample, others], rest)]
        assert kept[sample].tolist() == sorted(expected)


def test_matching_by_hand() -> None:
    """Odd places 1, 3, 5 look for even places 0, 2, 4; the two best pairs go."""
    metric = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0], [-1.0, 0.01]]])
    staying, going, target = match_halves(metric, 2)
    assert (staying.tolist(), going.tolist(), target.tolist()) == ([[3]], [[5, 1]], [[4, 0]])
    staying, going, _ = match_halves(metric, 0)
    assert staying.tolist() == [[1, 3, 5]] and going.shape == (1, 0)


def slow_tome(
    tokens: Tensor, sizes: Tensor, keys: Tensor, merges: int
) -> tuple[list[int], dict[int, Tensor], dict[int, Tensor]]:
    """Places that stay, and every place's content and size after merging."""
    similar = cosines(keys)
    even, odd = range(0, len(tokens), 2), range(1, len(tokens), 2)
    partner = {a: max(even, key=lambda b: (similar[a][b], -b)) for a in odd}
    going = sorted(odd, key=lambda a: -similar[a][partner[a]])[:merges]
    content, size = dict(enumerate(tokens.double())), dict(enumerate(sizes.double()))
    groups = {b: [b, *(a for a in going if partner[a] == b)] for b in even}
    for b, group in groups.items():
        total = sum(sizes[i].double() for i in group)
        content[b] = sum(tokens[i].double() * sizes[i].double() for i in group) / total
        size[b] = total
    return [i for i in range(len(tokens)) if i not in going], content, size


def test_tome_agrees_with_the_slow_reading_and_keeps_all_mass() -> None:
    scene = single(side=6)
    policy: Any = policies.build("tome", keep=0.2)
    tower = policy.plan(scene.seen_by(policy)).tower
    tokens, sizes = noise(3, 36, 6), torch.ones(3, 36)
    mass = tokens.sum(dim=1)
    for block in range(4):
        view = FakeVisionView(policy, scene, block, tokens, sizes=sizes)
        edit = policy.edit_vision(view)
        for tile in range(3):
            kept, content, size = slow_tome(
                tokens[tile], sizes[tile], view.keys()[tile], tower[block] - tower[block + 1]
            )
            assert edit.keep[tile].tolist() == kept
            expected = torch.stack([content[place] for place in kept])
            torch.testing.assert_close(edit.values[tile].double(), expected, rtol=1e-5, atol=1e-5)
            assert edit.sizes[tile].tolist() == [float(size[place]) for place in kept]
        tokens, sizes = edit.values, edit.sizes
        assert tokens.shape[1] == tower[block + 1]
        torch.testing.assert_close((tokens * sizes[..., None]).sum(dim=1), mass, rtol=1e-4, atol=1e-4)
    assert sizes.sum(dim=1).tolist() == [36.0] * 3


def test_the_official_order_puts_takers_last() -> None:
    policy: Any = policies.build("tome", keep=0.5, order="official")
    edit = policy.edit_vision(FakeVisionView(policy, single(), 0, noise(1, 16, 6)))
    assert edit.keep[0, -8:].tolist() == list(range(0, 16, 2)) and edit.reordered


@pytest.mark.parametrize(("left", "per_block"), [(192, 16.7), (128, 19.5), (64, 22.3)])
def test_published_merges(left: int, per_block: float) -> None:
    """576 patches, 23 blocks."""
    sizes = merged_sizes(576, left, 23)
    merges = [before - after for before, after in pairwise(sizes)]
    assert sizes[0] == 576 and sizes[-1] == left and round(sum(merges) / 23, 1) == per_block
    assert max(merges) - min(merges) == 1


def test_no_block_merges_more_than_half() -> None:
    for patches, left, blocks in ((576, 1, 23), (64, 16, 2), (36, 5, 4), (729, 12, 26), (35, 9, 2)):
        sizes = merged_sizes(patches, left, blocks)
        assert sizes[0] == patches and sizes[-1] == left
        assert all(before - after <= before // 2 for before, after in pairwise(sizes))


def test_tome_refuses_what_it_cannot_do() -> None:
    policy = policies.build("tome", keep=0.01)
    with pytest.raises(ParameterError, match="halve"):
        policy.check(single(side=6))
    pooled = Block(rows=2, cols=2, side=4, resampled=True)
    with pytest.raises(UnsupportedError):
        policies.build("tome").check(Scene(model=video().model, layout=VisualLayout((pooled,)), text=1, text_after=1))
    with pytest.raises(ParameterError, match="padding"):
        policies.build("tome", keep=0.95).check(anyres(side=4, top=3))
