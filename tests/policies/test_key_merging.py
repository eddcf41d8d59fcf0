"""Merging by key similarity, and VisionZip, against slow readings of the paper and of what its code computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.policies.views import HEADS, FakeImageView, anyres, noise, single
from tokprof import policies
from tokprof.policies.base import Scene
from tokprof.policies.key_merging import merge_leftovers
from tokprof.shapes import Block


def slow_merge(
    tokens: Tensor, keys: Tensor, leftover: list[int], count: int, official: bool
) -> tuple[list[int], list[Tensor]]:
    tokens, keys = tokens.double(), keys.double()
    step = max(1, len(leftover) // count)
    targets = leftover[::step][:count]
    members: dict[int, list[Tensor]] = {target: [] for target in targets}
    for token in leftover:
        if token not in targets:
            cosine = [float(keys[token] @ keys[t] / (keys[token].norm() * keys[t].norm())) for t in targets]
            members[targets[cosine.index(max(cosine))]].append(tokens[token])
    merged = []
    for target in targets:
        absorbed = members[target]
        if official:
            merged.append(tokens[target] + (torch.stack(absorbed).mean(dim=0) if absorbed else 0))
        else:
            merged.append(torch.stack([tokens[target], *absorbed]).mean(dim=0))
    return targets, merged


@pytest.mark.parametrize("official", [True, False])
@pytest.mark.parametrize(("leftover", "count"), [(13, 4), (13, 1), (13, 12), (13, 13), (10, 5), (7, 6)])
def test_merging_agrees_with_the_slow_reading(leftover: int, count: int, official: bool) -> None:
    tokens, keys = noise(2, 16, 5), noise(2, 16, 3, seed=1)
    index = torch.arange(16 - leftover, 16).expand(2, -1)
    targets, values = merge_leftovers(tokens, keys, index, count, "official" if official else "paper")
    for sample in range(2):
        expected, merged = slow_merge(tokens[sample], keys[sample], index[sample].tolist(), count, official)
        assert targets[sample].tolist() == expected
        torch.testing.assert_close(values[sample].double(), torch.stack(merged), rtol=1e-5, atol=1e-5)


def test_merging_by_hand() -> None:
    """Targets are tokens 0 and 2; token 1 resembles 0, token 3 resembles 2."""
    tokens = torch.tensor([[[1.0], [3.0], [10.0], [20.0]]])
    keys = torch.tensor([[[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 5.0]]])
    every = torch.arange(4)[None]
    assert merge_leftovers(tokens, keys, every, 2)[1].flatten().tolist() == [4.0, 30.0]
    assert merge_leftovers(tokens, keys, every, 2, "paper")[1].flatten().tolist() == [2.0, 15.0]


def test_a_target_with_nobody_to_absorb_stays_itself() -> None:
    tokens, every = noise(1, 3, 4), torch.arange(3)[None]
    torch.testing.assert_close(merge_leftovers(tokens, tokens, every, 3)[1], tokens)


def counts(scene: Scene, **parameters: Any) -> tuple[int, int, int]:
    """Dominant patches, contextual tokens per tile of 576, and all that enters."""
    policy: Any = policies.build("visionzip", **parameters)
    dominant, contextual = policy.split(576, scene)
    return dominant, contextual, policy.plan(scene.seen_by(policy)).layers[0]


@pytest.mark.parametrize(
    ("budget", "dominant", "contextual"), [(192, 162, 30), (128, 108, 20), (64, 54, 10), (32, 27, 5)]
)
def test_published_splits(budget: int, dominant: int, contextual: int) -> None:
    """The class token is one of the dominant ones."""
    one = single(side=24)
    assert counts(one, keep=budget / 576) == (dominant - 1, contextual, budget)
    assert counts(single(side=24, cls=False), keep=budget / 576) == (dominant, contextual, budget)
    five = Scene(
        model=one.model,
        layout=type(one.layout)((*one.layout.blocks, Block(rows=48, cols=48, side=24, tile_rows=2, tile_cols=2))),
        text=7,
        text_after=4,
    )
    assert counts(five, keep=budget / 576)[2] == 5 * budget


@pytest.mark.parametrize("scene", [single(side=5), anyres(side=4, top=1, batch=2)], ids=["picture", "tiles"])
def test_visionzip_agrees_with_the_slow_reading(scene: Scene) -> None:
    policy: Any = policies.build("visionzip", keep=0.5)
    view = FakeImageView(policy, scene)
    edit, saliency = policy.edit_image(view), view.saliency()
    for sample in range(scene.batch):
        dominant: list[int] = []
        contextual: list[tuple[int, Tensor]] = []
        for tile in dict.fromkeys(view.tile.tolist()):
            places = [place for place, own in enumerate(view.tile.tolist()) if own == tile]
            best, merged = policy.split(len(places), scene)
            ranked = sorted(places, key=lambda place: -float(saliency[sample, place]))
            dominant += ranked[:best]
            keys = view._keys[sample].reshape(-1, HEADS, view._keys.shape[-1] // HEADS).mean(dim=1)
            rest = sorted(set(places) - set(ranked[:best]))
            contextual += zip(*slow_merge(view.tokens[sample], keys, rest, merged, True), strict=True)
        chosen = sorted(dominant) + [place for place, _ in contextual]
        assert edit.keep[sample].tolist() == chosen
        expected = [*view.tokens[sample, sorted(dominant)].double(), *(content for _, content in contextual)]
        torch.testing.assert_close(edit.values[sample].double(), torch.stack(expected), rtol=1e-5, atol=1e-5)
    assert torch.equal(edit.extra, view.cls) and edit.extra_first and edit.reordered


def test_without_a_class_token_none_is_handed_over() -> None:
    policy = policies.build("visionzip", keep=0.5)
    edit = policy.edit_image(FakeImageView(policy, single(cls=False)))
    assert edit is not None and edit.extra is None
