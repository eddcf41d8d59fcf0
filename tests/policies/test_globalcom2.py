"""GlobalCom² against a slow reading in double precision, token by token."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.policies.views import FakeImageView, anyres, single
from tokprof import policies
from tokprof.errors import UnsupportedError
from tokprof.policies.base import Scene
from tokprof.shapes import Block, VisualLayout


def upsampled(scores: list[list[float]], rows: int, cols: int) -> list[float]:
    """Bilinear, pixel centres, edges repeated."""
    side = len(scores)

    def at(place: int, length: int) -> tuple[int, int, float]:
        exact = min(max((place + 0.5) * side / length - 0.5, 0.0), side - 1.0)
        low = min(int(exact), side - 1)
        return low, min(low + 1, side - 1), exact - low

    found = []
    for row in range(rows):
        top, bottom, down = at(row, rows)
        for col in range(cols):
            left, right, across = at(col, cols)
            upper = scores[top][left] * (1 - across) + scores[top][right] * across
            lower = scores[bottom][left] * (1 - across) + scores[bottom][right] * across
            found.append(upper * (1 - down) + lower * down)
    return found


def slow_choice(scores: list[float], tiles: list[int], grid: Block, keep: float) -> tuple[list[int], list[int], int]:
    """Thumbnail's choice in falling order; each tile's official choice; how many tokens the budget holds."""
    side = grid.side
    thumbnail, detail = scores[: side**2], scores[side**2 :]
    square = [thumbnail[row * side : (row + 1) * side] for row in range(side)]
    best = sorted(range(side**2), key=lambda place: -thumbnail[place])[: int(side**2 * keep)]
    worth = [0.0] * grid.tiles
    for row in range(side):
        for col in range(side):
            worth[row * grid.tile_rows // side * grid.tile_cols + col * grid.tile_cols // side] += square[row][col]
    raised = [math.exp((each - max(worth)) / 10) for each in worth]
    from_above = upsampled(square, grid.rows, grid.cols)
    chosen: list[int] = []
    for tile in range(grid.tiles):
        places = [place for place, own in enumerate(tiles) if own == tile]
        ratio = min(1.0, keep * (1 + raised[tile] / sum(raised) - 1 / grid.tiles))
        own_length = math.sqrt(sum(detail[place] ** 2 for place in places))
        above_length = math.sqrt(sum(from_above[place] ** 2 for place in places))
        combined = {place: detail[place] / own_length + from_above[place] / above_length for place in places}
        chosen += sorted(places, key=lambda place: -combined[place])[: int(len(places) * ratio)]
    return best, sorted(side**2 + place for place in chosen), int(len(detail) * keep + 1e-9)


@pytest.mark.parametrize("variant", ["official", "paper"])
@pytest.mark.parametrize("keep", [0.25, 0.4])
@pytest.mark.parametrize("scene", [anyres(side=6, batch=2), anyres(side=6, tile_rows=1, tile_cols=3, top=1, left=2)])
def test_agrees_with_the_slow_reading(scene: Scene, keep: float, variant: str) -> None:
    """What rounding leaves of the tiles' budget is filled up; apart from that the official choice."""
    policy: Any = policies.build("globalcom2", keep=keep, variant=variant)
    view = FakeImageView(policy, scene)
    last, grid = scene.model.vision.depth - 1, scene.layout.blocks[1]
    scores = view.cls_attention(last, logits=variant == "official").double().mean(dim=1)
    kept = policy.edit_image(view).keep
    own = [tile - 1 for tile in view.tile.tolist() if tile]
    for sample in range(scene.batch):
        best, official, budget = slow_choice(scores[sample].tolist(), own, grid, keep)
        count = len(best)
        assert kept[sample, :count].tolist() == (best if variant == "official" else sorted(best))
        detail = kept[sample, count:].tolist()
        assert len(detail) == budget
        small, large = sorted((set(official), set(detail)), key=len)
        assert small <= large, "the exact budget differs from the rounded one only at the end of each tile's ranking"


def test_a_worthier_tile_gets_more() -> None:
    """Uniform worth: equal budgets. One tile's thumbnail region raised: more there, less elsewhere."""
    scene = anyres(side=4)
    policy: Any = policies.build("globalcom2", keep=0.5)
    last = scene.model.vision.depth - 1
    logits = torch.zeros(1, 2, 80)

    def counts() -> list[int]:
        view = FakeImageView(policy, scene, logits={last: logits})
        tiles = view.tile[policy.edit_image(view).keep[0]]
        return [int((tiles == tile).sum()) for tile in range(5)]

    assert counts() == [8, 8, 8, 8, 8]
    view = FakeImageView(policy, scene)
    region = (view.tile == 0) & (view.row < 2) & (view.col >= 2)  # above the second tile
    logits[:, :, region] = 20.0
    thumbnail, *tiles = counts()
    assert thumbnail == 8 and tiles[1] > 8 and sum(tiles) == 32 and max(tiles[0], tiles[2], tiles[3]) < tiles[1]


def test_published_counts() -> None:
    """ρ = 0.25 on 2×2 tiles of 576: 144 + 576, and 48 newline tokens that always stay."""
    thumbnail = Block(rows=24, cols=24, side=24, thumbnail=True)
    grid = Block(rows=48, cols=48, side=24, tile_rows=2, tile_cols=2, newline="row")
    scene = Scene(model=anyres().model, layout=VisualLayout((thumbnail, grid)), text=9, text_after=5)
    assert policies.build("globalcom2").schedule(scene).layers[0] == 144 + 576 + 48
    assert policies.build("globalcom2", keep=0.1, newlines="drop").schedule(scene).layers[0] == 57 + 230


def test_a_picture_without_tiles_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="thumbnail"):
        policies.build("globalcom2").check(single())
