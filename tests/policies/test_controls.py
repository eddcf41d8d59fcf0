"""The controls: dense, random (alone and like others), uniform, average pooling, downsampling; and FasterVLM."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.policies.views import FakeDecoderView, FakeImageView, anyres, scene_of, single, video
from tokprof import policies
from tokprof.errors import ParameterError, UnsupportedError
from tokprof.layout import image_layout, smaller
from tokprof.models import catalog
from tokprof.policies.random import lots
from tokprof.shapes import Block


def test_dense_cannot_keep_less() -> None:
    assert policies.build("dense").identity
    with pytest.raises(ParameterError, match="every token"):
        policies.build("dense", keep=0.5)


def test_lots_are_fair_and_depend_on_the_seed() -> None:
    """A thousand seeds: each of ten tokens is among the best three about three times in ten."""
    chosen = torch.zeros(10)
    for seed in range(1000):
        chosen[lots(10, seed, chosen).topk(3).indices] += 1
    assert chosen.min() > 240 and chosen.max() < 360
    many = lots(10_000, 1, chosen)
    assert float(many.min()) >= 0 and float(many.max()) < 1 and abs(float(many.mean()) - 0.5) < 0.02
    assert len(set(many.tolist())) > 9_900


def random_choice(scene: Any, **parameters: Any) -> list[list[int]]:
    policy: Any = policies.build("random", keep=0.3, **parameters)
    kept: list[list[int]] = policy.edit_image(FakeImageView(policy, scene)).keep.tolist()
    return kept


def test_random_is_alike_for_all_samples_and_repeats_by_seed() -> None:
    scene = anyres(batch=3)
    first, *others = random_choice(scene)
    assert others == [first, first] and random_choice(anyres())[0] == first
    assert random_choice(scene, seed=1)[0] != first


def test_random_at_a_layer() -> None:
    scene = single(depth=8)
    policy: Any = policies.build("random", keep=0.25, mode="layer", layer=3)
    assert policy.schedule(scene).layers == (16,) * 3 + (4,) * 5
    assert not policy.edits_image and policy.decoder_stops(8) == (3,)
    assert policy.edit_decoder(FakeDecoderView(policy, scene, 3)).keep.shape == (1, 4)
    with pytest.raises(ParameterError, match="layer"):
        policies.build("random", mode="layer", layer=8).check(scene)


@pytest.mark.parametrize(
    "other", ["fastv", "v2drop", "hidivdrop", "pdrop", "visionzip", "vtw", "tome", "todre", "voco_llama"]
)
def test_random_follows_the_plan_of_another_method(other: str) -> None:
    """Same counts at every layer, and what is left later is a subset of what was left before."""
    scene = anyres(depth=32, top=1)
    policy: Any = policies.build("random", like=other, keep=0.4)
    model = policies.build(other, keep=0.4)
    plan = policy.schedule(scene)
    assert plan.layers == model.schedule(scene).layers and plan.exact
    entry, present = policy.entry_layer(32), scene.seen_by(policy).visual
    assert policy.newlines == model.newlines and entry == model.entry_layer(32)
    edits = [(entry, policy.edit_image(FakeImageView(policy, scene)))] if policy.edits_image else []
    for stop in (None, *policy.decoder_stops(32)):
        if stop is not None:
            edits.append((stop, policy.edit_decoder(FakeDecoderView(policy, scene, stop, present=present))))
        if not edits:
            continue
        layer, edit = edits[-1]
        if edit is not None:
            present = 0 if edit.keep is None else edit.keep.shape[1]
        assert present == policy.plan(scene.seen_by(policy)).layers[layer]


def test_random_cannot_be_like_nobody() -> None:
    for name in ("random", "dense"):
        with pytest.raises(ParameterError):
            policies.build("random", like=name)
    with pytest.raises(ParameterError, match="smaller"):
        policies.build("random", like="downsample").check(anyres(depth=32, top=1))


def test_uniform_spacing_by_hand() -> None:
    policy: Any = policies.build("uniform", keep=0.25)
    assert policy.edit_image(FakeImageView(policy, single())).keep.tolist() == [[2, 6, 10, 14]]
    thirds: Any = policies.build("uniform", keep=1 / 3)
    assert thirds.edit_image(FakeImageView(thirds, single(side=3))).keep.tolist() == [[1, 4, 7]]


def test_average_pooling_by_hand() -> None:
    """4×4 to 2×2: each mean stands at the last of its four places; sums are kept."""
    scene = single()
    tokens = torch.arange(16.0).view(1, 16, 1).expand(1, 16, 8).clone()
    policy: Any = policies.build("avgpool", keep=0.25)
    edit = policy.edit_image(FakeImageView(policy, scene, tokens=tokens))
    assert edit.keep.tolist() == [[5, 7, 13, 15]]
    assert edit.values[0, :, 0].tolist() == [2.5, 4.5, 10.5, 12.5]


def test_average_pooling_pools_every_grid_by_itself() -> None:
    scene = scene_of(Block(rows=4, cols=4, side=4), Block(rows=5, cols=3, side=5, image=1))
    policy: Any = policies.build("avgpool", keep=0.4)
    edit = policy.edit_image(FakeImageView(policy, scene))
    sizes = [policy.pooled(block) for block in scene.layout.blocks]
    assert sizes == [(3, 2), (3, 2)]
    assert int((edit.keep < 16).sum()) == 6 and edit.keep.shape == (1, 12)
    constant = policy.edit_image(FakeImageView(policy, scene, tokens=torch.ones(1, 31, 8)))
    torch.testing.assert_close(constant.values, torch.ones(1, 12, 8))


def test_downsampling_shrinks_both_sides() -> None:
    policy = policies.build("downsample", keep=0.25)
    assert policy.image_scale(anyres()) == 0.5
    assert policy.schedule(anyres()).layers == (anyres().layout.count,) * 8
    policy.check(anyres())
    for scene in (single(), video()):
        with pytest.raises(UnsupportedError, match="square"):
            policy.check(scene)
    with pytest.raises(UnsupportedError, match="smaller ones would give as many tokens"):
        policy.check(anyres(tile_rows=1, tile_cols=1))
    fixed = scene_of(
        Block(rows=4, cols=4, side=4, thumbnail=True),
        Block(rows=8, cols=8, side=4, tile_rows=2, tile_cols=2),
        tiling="anyres",
    )
    with pytest.raises(UnsupportedError, match="fixed grid"):
        policy.check(fixed)


@pytest.mark.parametrize("model", ["demo", "llava-next-7b", "llava-onevision-7b", "qwen2-vl-7b"])
def test_downsampling_spares_tokens_however_large_the_picture(model: str) -> None:
    """What a model throws away of a large picture is no saving: `keep` is a share of what it sees."""
    entry = catalog.find(model)
    for size in (entry.picture, (4000, 3000)):
        before = image_layout(entry.shape, [size])
        after = image_layout(entry.shape, [smaller(entry.shape, size, 0.5)])
        assert after.count < 0.7 * before.count and after.tower_passes <= before.tower_passes


def test_fastervlm_keeps_the_best_of_each_tile() -> None:
    """10 % of 576 are 58 per tile."""
    assert policies.build("fastervlm", keep=0.1).schedule(single(side=24)).layers[0] == 58
    scene = anyres(batch=2, top=1)
    policy: Any = policies.build("fastervlm", keep=0.25)
    view = FakeImageView(policy, scene)
    attention, tiles = view.cls_attention().mean(dim=1), view.tile.tolist()
    kept = policy.edit_image(view).keep
    for sample in range(2):
        expected: list[int] = []
        for tile in range(5):
            own = [place for place, number in enumerate(tiles) if number == tile]
            expected += sorted(own, key=lambda place: -float(attention[sample, place]))[: 4 if tile == 0 else 3]
        assert kept[sample].tolist() == sorted(expected)
