"""PruMerge and PruMerge+ against a slow reading of what the code computes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.policies.views import HEADS, FakeImageView, anyres, single
from tokprof import policies
from tokprof.errors import UnsupportedError
from tokprof.policies.base import Scene


def quantile(values: list[float], share: float) -> float:
    ordered, exact = sorted(values), share * (len(values) - 1)
    low = math.floor(exact)
    high = min(low + 1, len(values) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (exact - low)


def slow_weights(view: Any, sample: int, places: list[int], last: int) -> list[float]:
    """One head over all heads' keys, scale 1/√width, softmax over the tile's patches."""
    scores = view._rows(last).double()[sample].sum(dim=0) / math.sqrt(HEADS)
    raised = [math.exp(float(scores[place])) for place in places]
    return [each / sum(raised) for each in raised]


def slow_merge(tokens: Tensor, keys: Tensor, weights: list[float], kept: list[int]) -> tuple[Tensor, Tensor]:
    tokens, keys = tokens.double(), keys.double()
    merged = []
    for center in kept:
        others = [other for other in range(len(tokens)) if other != center]
        cosine = {o: float(keys[center] @ keys[o] / (keys[center].norm() * keys[o].norm())) for o in others}
        nearest = sorted(others, key=lambda other: -cosine[other])[:32]
        merged.append(tokens[center] + sum(weights[other] * tokens[other] for other in nearest))
    dropped = [other for other in range(len(tokens)) if other not in kept]
    return torch.stack(merged), sum((weights[other] * tokens[other] for other in dropped), torch.zeros(tokens.shape[1]))


def adaptive_count(weights: list[float]) -> int:
    lower, upper = quantile(weights, 0.25), quantile(weights, 0.75)
    return max(1, sum(weight > upper + 1.5 * (upper - lower) for weight in weights))


def slow_plus(ranked: list[int], best: int, adaptive: bool, size: int, budget: int) -> list[int]:
    """The best, and evenly spaced ones of the others."""
    others = sorted(ranked[best:])
    if adaptive:
        step = max(1, size // best // 3)
        return ranked[:best] + [place for place in range(0, size - 1, step) if place in others]
    count = budget - best
    return ranked[:best] + [others[(2 * i + 1) * len(others) // (2 * count)] for i in range(count)]


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("name", ["prumerge", "prumerge_plus"])
@pytest.mark.parametrize("scene", [single(side=7), anyres(side=6, top=1)], ids=["picture", "tiles"])
def test_agrees_with_the_slow_reading(scene: Scene, name: str, adaptive: bool) -> None:
    policy: Any = policies.build(name, keep=0.3, adaptive=adaptive)
    view = FakeImageView(policy, scene, seed=5)
    edit, last = policy.edit_image(view), scene.model.vision.depth - 1
    start = 0
    for tile in dict.fromkeys(view.tile.tolist()):
        places = [place for place, own in enumerate(view.tile.tolist()) if own == tile]
        weights = slow_weights(view, 0, places, last)
        ranked = sorted(range(len(places)), key=lambda place: -weights[place])
        budget = policy.count(len(places))
        best = adaptive_count(weights) if adaptive else budget
        if name == "prumerge_plus":
            half = best if adaptive else budget - budget // 2
            kept = slow_plus(ranked, half, adaptive, len(places), budget)
        else:
            kept = ranked[:best]
        values, rest = slow_merge(view.tokens[0, places], view._keys[0, places], weights, kept)
        part = slice(start, start + len(kept))
        assert edit.keep[0, part].tolist() == [places[place] for place in kept]
        torch.testing.assert_close(edit.values[0, part].double(), values, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(edit.extra[0, tile].double(), rest.double(), rtol=1e-5, atol=1e-5)
        start += len(kept)
    assert start == edit.keep.shape[1] and edit.reordered
    plan = policy.plan(scene.seen_by(policy))
    assert plan.covers([start + edit.extra.shape[1]] * scene.depth)
    assert plan.exact is not adaptive


def test_outliers_by_hand() -> None:
    """Flat attention has no outlier: one token stays all the same. Two peaks are two outliers."""
    scene = single()
    policy: Any = policies.build("prumerge", adaptive=True)
    last = scene.model.vision.depth - 1
    logits = torch.zeros(1, 2, 16)
    logits[..., 3] = logits[..., 9] = 4.0
    assert policy.edit_image(FakeImageView(policy, scene, logits={last: logits})).keep.tolist() == [[3, 9]]
    flat = FakeImageView(policy, scene, logits={last: torch.zeros(1, 2, 16)})
    assert policy.edit_image(flat).keep.tolist() == [[0]]


def test_no_more_than_a_quarter_can_stand_out() -> None:
    """What `most` promises: whatever the values, at most N/4 lie above Q3 + 1.5·IQR."""
    for size in range(2, 40):
        policy: Any = policies.build("prumerge", adaptive=True)
        for peaks in range(size):
            weights = torch.zeros(1, size)
            weights[0, :peaks] = 1.0 + torch.arange(peaks)
            assert policy.choose(weights).shape[1] <= policy.most(size)


def test_the_paper_budget_and_one_token_more() -> None:
    scene = single(side=24)
    assert policies.build("prumerge").schedule(scene).layers[0] == 32 + 1
    for budget in (192, 128, 64):
        assert policies.build("prumerge", keep=budget / 576).schedule(scene).layers[0] == budget + 1
    assert policies.build("prumerge_plus").schedule(scene).layers[0] == 144 + 1


def test_without_a_class_token_received_attention_is_used() -> None:
    policy: Any = policies.build("prumerge", keep=0.2)
    saliency = torch.arange(16.0).flip(0)[None] / 120
    view = FakeImageView(policy, single(cls=False), saliency=saliency)
    assert policy.edit_image(view).keep.tolist() == [[0, 1, 2]]


def test_adaptive_counts_differ_between_samples_so_batches_are_refused() -> None:
    policy = policies.build("prumerge", adaptive=True)
    assert policy.data_decided and not policies.build("prumerge").data_decided
    with pytest.raises(UnsupportedError, match="sample"):
        policy.check(single(batch=2))
