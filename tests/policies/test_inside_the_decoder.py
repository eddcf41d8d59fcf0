"""What every method inside the decoder owes at its stops, and which tokens the simple ones choose."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.policies.views import FakeDecoderView, noise, single
from tokprof import policies
from tokprof.policies.base import Edit, Policy, Scene
from tokprof.policies.v2drop import variation

DEPTH, SIDE, SAMPLES = 8, 6, 3
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("fastv", {}),
    ("fastv", {"query": "all"}),
    ("v2drop", {}),
    ("v2drop", {"metric": "cosine"}),
    ("hidivdrop", {}),
    ("hidivdrop", {"preset": "C"}),
    ("hidivdrop", {"exit": "never"}),
    ("vtw", {}),
    ("pdrop", {}),
    ("sparsevlm", {}),
    ("visiondrop", {}),
    ("twigvlm", {}),
]
NAMED = pytest.mark.parametrize(("name", "parameters"), METHODS, ids=lambda value: str(value))


def take(tokens: Tensor, index: Tensor) -> Tensor:
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def walk(
    policy: Policy, scene: Scene, samples: list[int], *, alike: bool = False, device: str = "cpu"
) -> list[tuple[int, Edit, Tensor]]:
    """(stop, edit, tokens after it) at every stop, on contents that depend on the sample alone."""
    scene = replace(scene, batch=len(samples))
    plan = policy.plan(scene.seen_by(policy))
    entry = policy.entry_layer(scene.depth)
    width, memory, found = scene.model.decoder.width, {}, []  # type: ignore[var-annotated]

    def content(*shape: int, seed: int) -> Tensor:
        given = torch.ones(len(samples), *shape) if alike else noise(SAMPLES, *shape, seed=seed)[samples]
        return given.to(device)

    tokens = content(plan.layers[entry], width, seed=1)
    for stop in sorted(policy.decoder_stops(scene.depth)):
        present = tokens.shape[1]
        rows = {
            row: content(present, seed=10 * stop + at).exp() for at, row in enumerate(("last", "instruction", "visual"))
        }
        view = FakeDecoderView(
            policy,
            scene,
            stop,
            tokens=tokens,
            before=content(present, width, seed=100 + stop),
            prompt=content(scene.text_after, width, seed=2),
            keys=content(present, 4, seed=200 + stop),
            attentions=rows,
            memory=memory,
        )
        edit = policy.edit_decoder(view)
        assert policy.needs | policy.optional >= view.used
        if edit is None:
            continue
        tokens = tokens[:, :0] if edit.keep is None else take(tokens, edit.keep) if edit.values is None else edit.values
        found.append((stop, edit, tokens))
    return found


@NAMED
@pytest.mark.parametrize("share", [0.15, 0.3, 0.45])
@pytest.mark.parametrize("alike", [False, True])
def test_edits_are_as_planned(name: str, parameters: dict[str, Any], share: float, alike: bool) -> None:
    policy, scene = policies.build(name, keep=share, **parameters), single(SIDE, depth=DEPTH)
    layers = policy.plan(scene.seen_by(policy)).layers
    present = layers[policy.entry_layer(DEPTH)]
    for stop, edit, tokens in walk(policy, scene, [0, 1], alike=alike):
        assert tokens.shape[1] == layers[stop]
        if edit.keep is not None:
            assert edit.keep.shape == (2, layers[stop])
            ordered = edit.keep.sort(dim=1).values if edit.reordered else edit.keep
            assert (ordered[:, 1:] > ordered[:, :-1]).all()
            assert ordered.min() >= 0 and ordered.max() < present
        assert tokens.isfinite().all()
        present = tokens.shape[1]


@NAMED
def test_a_sample_does_not_depend_on_its_batch(name: str, parameters: dict[str, Any]) -> None:
    policy, scene = policies.build(name, keep=0.3, **parameters), single(SIDE, depth=DEPTH)
    together, alone = walk(policy, scene, [2, 0, 1]), walk(policy, scene, [0])
    for (_, in_batch, tokens), (_, by_itself, own) in zip(together, alone, strict=True):
        if in_batch.keep is not None and by_itself.keep is not None:
            assert torch.equal(in_batch.keep[1:2], by_itself.keep)
        torch.testing.assert_close(tokens[1:2], own)


@NAMED
def test_deciding_again_decides_the_same(name: str, parameters: dict[str, Any]) -> None:
    policy, scene = policies.build(name, keep=0.3, **parameters), single(SIDE, depth=DEPTH)
    for (_, first, _), (_, second, _) in zip(walk(policy, scene, [0, 1]), walk(policy, scene, [0, 1]), strict=True):
        assert str(first) == str(second)


@NAMED
def test_nothing_waits_for_the_device(name: str, parameters: dict[str, Any]) -> None:
    """On the meta device a read of any value raises."""
    policy, scene = policies.build(name, keep=0.3, **parameters), single(SIDE, depth=DEPTH)
    assert all(left.is_meta for _, _, left in walk(policy, scene, [0, 1], device="meta"))


@NAMED
@pytest.mark.parametrize("tokens", [1, 2])
def test_the_smallest_pictures(name: str, parameters: dict[str, Any], tokens: int) -> None:
    policy = policies.build(name, keep=0.3, **parameters)
    for _, edit, left in walk(policy, single(tokens, depth=DEPTH), [0]):
        assert edit.keep is None or left.shape[1] >= 1


def decide(name: str, stop: int, scores: list[float], *, rows: str = "last", **parameters: Any) -> list[int]:
    policy = policies.build(name, **parameters)
    scene = single(2, depth=DEPTH)
    view = FakeDecoderView(policy, scene, stop, present=len(scores), attentions={rows: torch.tensor([scores])})
    edit = policy.edit_decoder(view)
    assert edit is not None and edit.keep is not None
    assert edit.values is None and not edit.reordered
    return edit.keep[0].tolist()


def test_fastv_keeps_what_the_last_row_looks_at() -> None:
    assert decide("fastv", 1, [0.1, 0.4, 0.3, 0.2], keep=0.5) == [1, 2]
    assert decide("fastv", 1, [0.2, 0.4, 0.2, 0.2], keep=0.5) == [0, 1]  # ties: the lower index


def test_fastv_over_all_rows_weighs_rows_equally() -> None:
    policy, scene = policies.build("fastv", keep=0.25, query="all"), single(2, depth=DEPTH, text_after=2)
    rows = {"visual": torch.tensor([[0.5, 0.1, 0.4, 0.0]]), "instruction": torch.tensor([[0.0, 0.2, 0.3, 0.5]])}
    edit = policy.edit_decoder(FakeDecoderView(policy, scene, 1, attentions=rows))
    assert edit is not None and edit.keep is not None
    assert edit.keep.tolist() == [[2]]  # 4·0.4 + 2·0.3 = 2.2 beats 4·0.5 = 2.0


def test_pdrop_and_hidivdrop_ask_the_layer_they_say() -> None:
    scene = single(4, depth=DEPTH)
    for name, parameters, layer, over in (
        ("pdrop", {}, "next", None),
        ("hidivdrop", {}, "previous", "columns"),
        ("hidivdrop", {"preset": "C"}, "next", "columns"),
        ("twigvlm", {}, "previous", None),
        ("fastv", {}, "previous", None),
    ):
        policy = policies.build(name, keep=0.3, **parameters)
        stop = sorted(policy.decoder_stops(DEPTH))[0]
        view = FakeDecoderView(policy, scene, stop)
        policy.edit_decoder(view)
        (asked,) = view.asked
        assert (asked["rows"], asked["layer"], asked.get("over")) == ("last", layer, over)


def test_positions_after_a_cut() -> None:
    renumbered = {name for name, _ in METHODS if policies.build(name).positions == "compacted"}
    assert renumbered == {"pdrop", "sparsevlm", "visiondrop"}
    assert policies.build("vtw", positions="compacted").positions == "compacted"


def test_v2drop_by_hand() -> None:
    after = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]]])
    before = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]])
    assert variation(after, before, "l2")[0].tolist() == pytest.approx([0.0, 1.0, 2.0, math.sqrt(2)])
    assert variation(after, before, "l1")[0].tolist() == pytest.approx([0.0, 1.0, 2.0, 2.0])
    assert variation(after, before, "cosine")[0].tolist() == pytest.approx([0.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize("metric", ["l2", "l1", "cosine"])
def test_v2drop_against_plain_python(metric: str) -> None:
    policy, scene = policies.build("v2drop", ratios="0.5,0.5,0", metric=metric), single(4, depth=DEPTH, batch=2)
    view = FakeDecoderView(policy, scene, 1)
    edit = policy.edit_decoder(view)
    assert edit is not None and edit.keep is not None
    for sample in range(2):
        scores = []
        for after, before in zip(view.tokens[sample].tolist(), view.before[sample].tolist(), strict=True):
            gap = [abs(a - b) for a, b in zip(after, before, strict=True)]
            dot = sum(a * b for a, b in zip(after, before, strict=True))
            scores.append(
                {"l2": math.hypot(*gap), "l1": sum(gap), "cosine": 1 - dot / math.hypot(*after) / math.hypot(*before)}[
                    metric
                ]
            )
        best = sorted(range(16), key=lambda token: -scores[token])[:8]
        assert edit.keep[sample].tolist() == sorted(best)


def test_v2drop_may_leave_nothing() -> None:
    policy = policies.build("v2drop", ratios="0.5,0.5,0", least=0)
    edit = policy.edit_decoder(FakeDecoderView(policy, single(4, depth=DEPTH), 6, present=4))
    assert edit is not None and edit.keep is None
