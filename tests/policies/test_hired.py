"""HiRED against a slow reading, its two ways of telling which tile a token falls onto, and its budgets."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.policies.views import FakeImageView, anyres, several, single
from tokprof import policies
from tokprof.policies.base import Scene
from tokprof.shapes import Block, VisualLayout


def slow_quotas(early: list[float], grid: Block, alpha: float, budget: int, cells: str) -> list[int]:
    side, patches = grid.side, grid.side**2
    judges = sorted(range(patches), key=lambda place: -early[place])[: max(1, int(patches * (1 - alpha)))]
    votes = [0] * grid.tiles
    for place in judges:
        row, col = divmod(place, side)
        exact = row * grid.tile_rows // side * grid.tile_cols + col * grid.tile_cols // side
        votes[exact if cells == "exact" else place // (patches // grid.tiles)] += 1
    return [budget * count // len(judges) for count in votes]


@pytest.mark.parametrize("cells", ["exact", "official"])
@pytest.mark.parametrize("alpha", [0.5, 0.3])
@pytest.mark.parametrize("scene", [anyres(side=4, batch=2), anyres(side=4, tile_rows=2, tile_cols=1, left=1)])
def test_agrees_with_the_slow_reading(scene: Scene, alpha: float, cells: str) -> None:
    """Truncated quotas as in the code, and what they leave over filled up to the budget."""
    policy: Any = policies.build("hired", keep=0.3, alpha=alpha, cells=cells)
    view = FakeImageView(policy, scene)
    early, late = view.cls_attention(0).sum(dim=1), view.cls_attention().sum(dim=1)
    kept, tiles, grid = policy.edit_image(view).keep, view.tile.tolist(), scene.layout.blocks[1]
    total = int(0.3 * len(tiles) + 1e-9)
    of_thumbnail = min(int(total * alpha), 16)
    for sample in range(scene.batch):
        quotas = slow_quotas(early[sample, :16].tolist(), grid, alpha, total - of_thumbnail, cells)
        assert kept.shape[1] == total
        for tile, quota in enumerate([of_thumbnail, *quotas]):
            own = [place for place, number in enumerate(tiles) if number == tile]
            ranked = sorted(own, key=lambda place: -float(late[sample, place]))
            found = [place for place in kept[sample].tolist() if tiles[place] == tile]
            assert found == sorted(ranked[: len(found)])
            assert quota <= len(found) <= quota + (tile > 0)


def test_stripes_and_quadrants_differ() -> None:
    """All early attention in the lower half's left: exactly tile 2 of 2×2; in the code's stripes tiles 2 and 3."""
    scene = anyres(side=4)
    exact: Any = policies.build("hired", keep=0.3, alpha=0.75)
    view = FakeImageView(exact, scene)
    early = torch.zeros(1, 2, 80)
    early[:, :, (view.tile == 0) & (view.row >= 2) & (view.col < 2)] = 9.0

    def counts(policy: Any) -> list[int]:
        seen = FakeImageView(policy, scene, logits={0: early})
        tiles = seen.tile[policy.edit_image(seen).keep[0]]
        return [int((tiles == tile).sum()) for tile in range(1, 5)]

    assert counts(exact) == [0, 0, 8, 0]
    assert counts(policies.build("hired", keep=0.3, alpha=0.75, cells="official")) == [0, 0, 4, 4]


def test_published_budget() -> None:
    """b = 0.2, α = 0.5 on 2×2 tiles: 576 tokens, half of them the thumbnail's."""
    thumbnail = Block(rows=24, cols=24, side=24, thumbnail=True)
    grid = Block(rows=48, cols=48, side=24, tile_rows=2, tile_cols=2)
    scene = Scene(model=anyres().model, layout=VisualLayout((thumbnail, grid)), text=9, text_after=5)
    policy: Any = policies.build("hired")
    assert policy.schedule(scene).layers[0] == 576
    kept = policy.edit_image(FakeImageView(policy, scene)).keep
    assert int((kept < 576).sum()) == 288


def test_a_picture_without_tiles_keeps_its_best() -> None:
    policy: Any = policies.build("hired", keep=0.2)
    view = FakeImageView(policy, single())
    attention = view.cls_attention().sum(dim=1)[0].tolist()
    best = sorted(range(16), key=lambda place: -attention[place])[:3]
    assert policy.edit_image(view).keep[0].tolist() == sorted(best)
    assert policies.build("hired").schedule(several(3)).layers[0] == 9
