"""Which tokens belong to which tile, and choosing within each."""

from __future__ import annotations

import pytest
import torch

from tests.policies.views import FakeImageView, anyres, noise, scene_of, several, tiled, video
from tokprof import policies
from tokprof.policies.base import Scene
from tokprof.policies.per_tile import cells, groups, pictures, tile_sizes, top_by_quota, top_per_tile
from tokprof.policies.shares import floored, rounded
from tokprof.shapes import VisualLayout


def tile_of(scene: Scene) -> torch.Tensor:
    return FakeImageView(policies.build("uniform"), scene).tile


def test_sizes_after_unpadding() -> None:
    assert tile_sizes(anyres(side=4, top=1).layout) == (16, 12, 12, 12, 12)
    assert tile_sizes(anyres(side=4, tile_rows=1, tile_cols=3, left=2).layout) == (16, 8, 16, 8)
    assert tile_sizes(several(2, side=3).layout) == (9, 9)
    assert tile_sizes(video(frames=3, side=2).layout) == (4, 4, 4)


def test_groups_hold_every_token_once() -> None:
    scene = anyres(side=4, tile_rows=1, tile_cols=3, left=2)
    tile = tile_of(scene)
    found = groups(tile, scene.layout)
    assert [(group.tiles, group.size) for group in found] == [((0, 2), 16), ((1, 3), 8)]
    assert sorted(torch.cat([group.places.flatten() for group in found]).tolist()) == list(range(48))
    for group in found:
        for index, number in enumerate(group.tiles):
            assert (tile[group.places[index]] == number).all()
    chosen = torch.tensor([[0, 1], [2, 3], [4, 5], [6, 7]])  # two samples of two tiles
    first = found[0].places
    assert found[0].shown(chosen).tolist() == [
        [*first[0, :2].tolist(), *first[1, 2:4].tolist()],
        [*first[0, 4:6].tolist(), *first[1, 6:8].tolist()],
    ]


@pytest.mark.parametrize("scene", [anyres(side=4, top=1), several(3), video()], ids=["tiles", "pictures", "video"])
def test_the_best_of_each_tile(scene: Scene) -> None:
    tile, sizes = tile_of(scene).tolist(), tile_sizes(scene.layout)
    scores, counts = noise(2, len(tile)), [1 + number % 3 for number in range(len(sizes))]
    kept = top_per_tile(scores, torch.tensor(tile), scene.layout, counts)
    for sample in range(2):
        expected = []
        for number, count in enumerate(counts):
            own = [place for place in range(len(tile)) if tile[place] == number]
            expected += sorted(own, key=lambda place: -float(scores[sample, place]))[:count]
        assert kept[sample].tolist() == sorted(expected)


def test_quotas_by_hand() -> None:
    """Tile 0 holds the even places. What rounding left over goes to the next in rank, lower index first."""
    tile, sizes = torch.tensor([0, 1, 0, 1, 0, 1]), (3, 3)
    scores = torch.tensor([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])

    def kept(quotas: list[int], count: int) -> list[int]:
        return top_by_quota(scores, tile, sizes, torch.tensor([quotas]), count)[0].tolist()

    assert kept([2, 1], 3) == [0, 1, 2]
    assert kept([3, 0], 3) == [0, 2, 4]
    assert kept([1, 1], 3) == [0, 1, 2]
    assert kept([0, 1], 3) == [0, 1, 3], "tile 1 is one ahead; then both have a next in rank, and 0 comes first"
    assert kept([3, 3], 4) == [0, 1, 2, 3], "too much: the last in rank go"


def test_quotas_that_add_up_are_met_exactly() -> None:
    tile = torch.tensor([0] * 5 + [1] * 7 + [2] * 4)
    quotas = torch.tensor([[1, 6, 2], [5, 0, 4]])
    kept = top_by_quota(noise(2, 16), tile, (5, 7, 4), quotas, 9)
    for sample in range(2):
        assert [int((tile[kept[sample]] == number).sum()) for number in range(3)] == quotas[sample].tolist()


def test_pictures_and_what_lies_under_their_thumbnails() -> None:
    layout = VisualLayout((*tiled(4, 1, 2, image=0), *tiled(4, 2, 2, top=1, image=1)))
    first, second = pictures(layout)
    assert (first.thumbnail, first.detail, first.first_tile) == (slice(0, 16), slice(16, 48), 1)
    assert (second.thumbnail, second.detail, second.first_tile) == (slice(48, 64), slice(64, 112), 4)
    assert cells(first, torch.zeros(1)).view(4, 4).tolist() == [[0, 0, 1, 1]] * 4
    assert cells(second, torch.zeros(1)).view(4, 4).tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2
    assert all(picture.thumbnail is None for picture in pictures(several(2).layout))
    assert len(pictures(scene_of(*video().layout.blocks).layout)) == 4


def test_shares() -> None:
    assert [floored(0.1, 2880), floored(0.29, 100), floored(0.1, 5), floored(1.0, 7)] == [288, 29, 1, 7]
    assert [rounded(0.1, 576), rounded(0.05, 576), rounded(0.5, 5), rounded(0.001, 9)] == [58, 29, 3, 1]
