"""The whole of a stop against a slow reference: raters, scores, recycling, order."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.policies.test_density_peaks import reference as peaks
from tests.policies.views import FakeDecoderView, noise, single
from tokprof.policies.base import Scene
from tokprof.policies.merged_tokens import left_out
from tokprof.policies.sparsevlm import SparseVLM, clusters, raters, recycled


def test_raters_are_the_text_above_the_mean() -> None:
    visual = torch.tensor([[[4.0, 0.0], [3.0, 0.0]]])
    text = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    assert raters(visual, text).tolist() == [[0.5, 0.0, 0.5]]
    assert raters(torch.zeros(1, 2, 2), text)[0].tolist() == pytest.approx([1 / 3] * 3)  # all alike: everyone rates


def test_raters_against_plain_python() -> None:
    visual, text = noise(1, 9, 4, seed=1), noise(1, 5, 4, seed=2)
    relevance = torch.zeros(5, dtype=torch.float64)
    for token in visual[0].double():
        products = torch.stack([(token * word).sum() for word in text[0].double()])
        relevance += products.exp() / products.exp().sum() / 9
    chosen = [float(value) > float(relevance.mean()) for value in relevance]
    expected = [flag / sum(chosen) for flag in chosen]
    assert raters(visual, text)[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("dropped", "best", "made"), [(0, 0, 0), (1, 1, 1), (94, 29, 3), (109, 33, 4), (276, 83, 9)])
def test_recycling_counts(dropped: int, best: int, made: int) -> None:
    assert (recycled(dropped), clusters(dropped)) == (best, made)


def stop_view(policy: SparseVLM, scene: Scene, scores: torch.Tensor, tokens: torch.Tensor) -> FakeDecoderView:
    memory: dict[str, Any] = {}
    policy.edit_decoder(FakeDecoderView(policy, scene, 0, memory=memory))
    return FakeDecoderView(policy, scene, 1, tokens=tokens, attentions={"instruction": scores}, memory=memory)


def test_a_stop_against_plain_python() -> None:
    policy, scene = SparseVLM(tokens=(20, 10, 5)), single(7, depth=8, batch=2)
    tokens, scores = noise(2, 49, 8, seed=3), noise(2, 49, seed=4)
    view = stop_view(policy, scene, scores, tokens)
    edit = policy.edit_decoder(view)
    assert edit is not None and edit.keep is not None and edit.values is not None and edit.reordered
    assert torch.equal(view.asked[0]["weights"], view.memory["raters"])
    for sample in range(2):
        ranked = sorted(range(49), key=lambda token: -float(scores[sample, token]))
        kept, best = sorted(ranked[:20]), sorted(ranked[20 : 20 + recycled(29)])
        centres, cluster = peaks(tokens[sample, best].double().tolist(), clusters(29))
        merged = [
            tokens[sample, [best[i] for i, own in enumerate(cluster) if own == c]].mean(dim=0)
            for c in range(len(centres))
        ]
        assert edit.keep[sample].tolist() == kept + [best[centre] for centre in centres]
        torch.testing.assert_close(edit.values[sample, :20], tokens[sample, kept])
        torch.testing.assert_close(edit.values[sample, 20:], torch.stack(merged))


def test_where_ids_persist_a_merged_token_stays_at_its_centre() -> None:
    from dataclasses import replace

    policy, scene = SparseVLM(tokens=(20, 10, 5)), single(7, depth=8)
    scene = replace(scene, model=replace(scene.model, rotary="mrope"))
    tokens, scores = noise(1, 49, 8, seed=3), noise(1, 49, seed=4)
    edit = policy.edit_decoder(stop_view(policy, scene, scores, tokens))
    assert edit is not None and edit.keep is not None and edit.values is not None and not edit.reordered
    assert (edit.keep[:, 1:] > edit.keep[:, :-1]).all()
    kept = set(scores[0].topk(20).indices.tolist())
    for place, value in zip(edit.keep[0].tolist(), edit.values[0], strict=True):
        if place in kept:
            assert torch.equal(value, tokens[0, place])


def test_left_out_is_the_rest_in_order() -> None:
    assert left_out(6, torch.tensor([[1, 4], [0, 5]])).tolist() == [[0, 2, 3, 5], [1, 2, 3, 4]]


def test_plus_divides_by_distance_and_asks_the_best_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokprof.policies.sparsevlm.PLUS_HEADS", 1)
    policy, scene = SparseVLM(tokens=(4, 2, 1), variant="+"), single(3, depth=8)
    by_head = torch.stack((noise(1, 9, seed=5).exp(), 10 * noise(1, 9, seed=6).exp()), dim=1)
    memory: dict[str, Any] = {}
    policy.edit_decoder(FakeDecoderView(policy, scene, 0, memory=memory))
    view = FakeDecoderView(policy, scene, 1, attentions={"instruction": by_head}, memory=memory)
    edit = policy.edit_decoder(view)
    assert edit is not None and edit.keep is not None and edit.values is None
    (asked,) = view.asked
    assert asked["mean_heads"] is False
    torch.testing.assert_close(asked["weights"], memory["raters"][..., None] / view.decay("instruction"))
    assert edit.keep[0].tolist() == sorted(by_head[0, 1].topk(4).indices.tolist())  # the head with the most mass
    assert policy.positions == "persistent"


@pytest.mark.parametrize(("budget", "mean"), [(192, 192.4375), (128, 128.0), (96, 96.8125), (64, 64.4375)])
def test_plus_has_lists_of_its_own(budget: int, mean: float) -> None:
    scene = single(24, depth=32)
    assert SparseVLM(keep=budget / 576, variant="+").published_mean(scene) == pytest.approx(mean, abs=0.06)
