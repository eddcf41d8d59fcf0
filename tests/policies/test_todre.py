"""Greedy diverse choice against a slow reading of the paper, and ToDRE's pivots, stops and exits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.policies.views import FakeDecoderView, FakeImageView, anyres, noise, scene_of, several, single, video
from tokprof import policies
from tokprof.errors import ParameterError
from tokprof.measure.activity import activity_pass
from tokprof.measure.clock import Clock
from tokprof.policies import kcenter
from tokprof.policies.kcenter import choose_diverse
from tokprof.policies.todre import ToDRE
from tokprof.shapes import Block


def slow_choice(features: Tensor, first: int, count: int, total: bool = False) -> list[int]:
    """ToDRE algorithm 1 with V∖C as in eq. 4: one sample, double precision, nothing clever."""
    points = features.double()
    cosine = [[float(a @ b / (a.norm() * b.norm())) for b in points] for a in points]
    chosen = [first]
    while len(chosen) < count:
        others = [i for i in range(len(points)) if i not in chosen]
        gather = sum if total else max
        chosen.append(min(others, key=lambda i: gather(cosine[i][c] for c in chosen)))
    return sorted(chosen)


@pytest.mark.parametrize("limit", [kcenter.GRAM_TOKENS, 0], ids=["precomputed", "on demand"])
@pytest.mark.parametrize("diversity", ["k-center", "max-sum"])
@pytest.mark.parametrize("count", [1, 2, 7, 24])
def test_diverse_choice_agrees_with_the_paper(count: int, diversity: Any, limit: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(kcenter, "GRAM_TOKENS", limit)
    features, first = noise(3, 24, 6), torch.tensor([0, 11, 23])
    chosen = choose_diverse(features, first, count, diversity)
    assert chosen.tolist() == [
        slow_choice(sample, int(start), count, diversity == "max-sum")
        for sample, start in zip(features, first, strict=True)
    ]


@pytest.mark.parametrize(
    ("limit", "batch", "operators"), [(kcenter.GRAM_TOKENS, 1, 3), (kcenter.GRAM_TOKENS, 2, 4), (0, 1, 5)]
)
def test_a_further_token_costs_few_operators(limit: int, batch: int, operators: int, monkeypatch: Any) -> None:
    """What the host queues for it is its price on a GPU."""
    monkeypatch.setattr(kcenter, "GRAM_TOKENS", limit)
    features, first = noise(batch, 24, 6), torch.arange(batch)

    def spent(count: int) -> int:
        def choose(clock: Clock) -> None:
            clock.enter("select")
            choose_diverse(features, first, count)

        return activity_pass(choose, "cpu").kernel_launches["select"]

    assert spent(12) - spent(2) == 10 * operators


def test_points_on_a_circle() -> None:
    """From 0°: the opposite first, then the two in between, lower index first."""
    angles = torch.deg2rad(torch.tensor([0.0, 90.0, 180.0, 270.0, 5.0, 185.0]))
    circle = torch.stack((angles.cos(), angles.sin()), dim=1)[None]
    assert choose_diverse(circle, torch.tensor([0]), 2).tolist() == [[0, 2]]
    assert choose_diverse(circle, torch.tensor([0]), 4).tolist() == [[0, 1, 2, 3]]


def test_identical_tokens_are_chosen_once_each_and_in_order() -> None:
    same = torch.ones(1, 6, 4)
    assert choose_diverse(same, torch.tensor([3]), 4).tolist() == [[0, 1, 2, 3]]
    assert choose_diverse(same, torch.tensor([3]), 6).tolist() == [[0, 1, 2, 3, 4, 5]]


def test_the_choice_follows_a_permutation_of_the_tokens() -> None:
    features, order = noise(1, 20, 5), torch.randperm(20, generator=torch.Generator().manual_seed(1))
    chosen = choose_diverse(features, torch.tensor([4]), 8)[0]
    shuffled = choose_diverse(features[:, order], (order == 4).nonzero()[0], 8)[0]
    assert sorted(order[shuffled].tolist()) == chosen.tolist()


def saliency_with_peak(scene: Any, peaks: dict[int, float]) -> Tensor:
    saliency = torch.full((1, scene.layout.patches), 0.01)
    for place, height in peaks.items():
        saliency[0, place] = height
    return saliency


def pivot(scene: Any, saliency: Tensor, **parameters: Any) -> int:
    """With one token to keep, ToDRE keeps its pivot."""
    policy = policies.build("todre", keep=1e-6, **parameters)
    edit = policy.edit_image(FakeImageView(policy, scene, saliency=saliency))
    assert edit is not None and edit.keep is not None
    return int(edit.keep)


def test_pivots() -> None:
    """Tiles: only the thumbnail counts, even if a tile's token is more salient. Otherwise: all tokens."""
    assert pivot(anyres(), saliency_with_peak(anyres(), {5: 0.2, 40: 0.9})) == 5
    assert pivot(single(), saliency_with_peak(single(), {3: 0.2, 9: 0.9})) == 9
    frames = video(frames=3, side=3)
    assert pivot(frames, saliency_with_peak(frames, {2: 0.5, 10: 0.3, 20: 0.6})) == 20
    thumbnails = scene_of(*anyres().layout.blocks, *_second_picture())
    assert pivot(thumbnails, saliency_with_peak(thumbnails, {1: 0.1, 80: 0.3, 100: 0.9})) == 80


def _second_picture() -> tuple[Block, ...]:
    first, grid = anyres().layout.blocks
    return (
        Block(rows=first.rows, cols=first.cols, side=first.side, image=1, thumbnail=True),
        Block(rows=grid.rows, cols=grid.cols, side=grid.side, image=1, tile_rows=2, tile_cols=2, newline="row"),
    )


def test_published_budgets() -> None:
    """2880 tokens (--anyres fixed): 25 % are 720, 10 % are 288."""
    tiles = [Block(rows=48, cols=48, side=24, tile_rows=2, tile_cols=2)]
    scene = scene_of(Block(rows=24, cols=24, side=24, thumbnail=True), *tiles, depth=32)
    for keep, kept in ((0.25, 720), (0.1, 288)):
        assert policies.build("todre", keep=keep).schedule(scene).layers == (kept,) * 32


@pytest.mark.parametrize(
    ("depth", "base", "stops"),
    [(32, 1, (16, 20, 24, 28)), (32, 0, (17, 21, 25, 29)), (28, 1, (14, 17, 21, 24)), (40, 1, (20, 25, 30, 35))],
)
def test_stops(depth: int, base: int, stops: tuple[int, ...]) -> None:
    assert policies.build("todre", index_base=base).decoder_stops(depth) == stops


def test_the_plan_bounds_what_data_decides_and_is_exact_otherwise() -> None:
    scene = single(depth=32)
    open_ended = policies.build("todre", keep=0.5).schedule(scene)
    assert open_ended.layers == (8,) * 32 and open_ended.least == (8,) * 16 + (0,) * 16
    forced = policies.build("todre", keep=0.5, exit_layer=20)
    assert forced.schedule(scene).layers == (8,) * 20 + (0,) * 12 and not forced.data_decided
    never = policies.build("todre", keep=0.5, exit_layer="never")
    assert never.schedule(scene).layers == (8,) * 32 and not tuple(never.decoder_stops(32))
    second = policies.build("todre", stages=2, exit_layer=20)
    assert second.schedule(scene).layers == (16,) * 20 + (0,) * 12


def looking(*masses: float) -> Tensor:
    """Attention to four visual tokens whose sum is the given mass, per sample."""
    return torch.tensor(masses)[:, None].expand(-1, 4) / 4


def exits(scene: Any, text_to_visual: Tensor, visual_to_text: Tensor | None = None) -> bool:
    policy = policies.build("todre", keep=0.25)
    attentions: dict[Any, Tensor] = {"instruction": text_to_visual}
    if visual_to_text is not None:
        attentions["visual", "instruction"] = visual_to_text
    view = FakeDecoderView(policy, scene, 4, present=4, attentions=attentions)
    edit = policy.edit_decoder(view)
    assert edit is None or edit.keep is None
    return edit is not None


def test_exit_once_the_text_looks_away() -> None:
    assert exits(single(), looking(0.029))
    assert not exits(single(), looking(0.031))


def test_in_a_batch_all_have_to_agree() -> None:
    assert exits(single(batch=2), looking(0.01, 0.02))
    assert not exits(single(batch=2), looking(0.01, 0.5))


def test_with_several_pictures_the_reverse_counts_too() -> None:
    assert exits(several(2), looking(0.01), looking(0.01))
    assert not exits(several(2), looking(0.01), looking(0.2))
    assert exits(single(), looking(0.01), looking(0.2)), "a single picture never sees text"


def test_without_text_behind_the_picture_nobody_asks() -> None:
    policy = policies.build("todre")
    scene = single(text_after=0)
    assert policy.edit_decoder(FakeDecoderView(policy, scene, 4)) is None
    assert not any("layer" in cost.name for cost in policy.costs(scene.seen_by(policy)))


def test_needs_and_data_follow_the_parameters() -> None:
    assert policies.build("todre").data_decided
    assert not policies.build("todre", stages="1").data_decided
    assert {need.name for need in policies.build("todre", stages=1).needs} == {"SALIENCY"}
    assert not policies.build("todre", stages=2, exit_layer=3).needs


@pytest.mark.parametrize("wrong", [{"exit_layer": "soon"}, {"stages": 3}, {"tau": -1}, {"index_base": 2}])
def test_wrong_parameters(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        policies.build("todre", **wrong)


def test_an_exit_outside_the_decoder_is_refused() -> None:
    for layer in (0, 8):
        with pytest.raises(ParameterError, match="exit_layer"):
            ToDRE(exit_layer=layer).check(single(depth=8))
    ToDRE(exit_layer=7).check(single(depth=8))


def test_the_exit_looks_where_it_is_told_to() -> None:
    """Table 6: single layers, every layer of the second half; the last one has nothing left to save in prefill."""
    assert policies.build("todre", layers="16,20").decoder_stops(32) == (16, 20)
    assert policies.build("todre", layers=24).decoder_stops(32) == (24,)
    assert policies.build("todre", layers=[16, 32]).decoder_stops(32) == (16,)
    assert policies.build("todre").decoder_stops(32) == (16, 20, 24, 28)
    with pytest.raises(ParameterError):
        policies.build("todre", layers="half")
