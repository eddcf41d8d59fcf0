from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from tests.policies.views import FakeDecoderView, FakeImageView, noise, single, video
from tokprof.policies.visiondrop import VisionDrop


def test_a_stop_against_plain_python() -> None:
    """Dominant by attention received; every k-th of the rest absorbs its nearest, sum of target and mean."""
    policy, scene = VisionDrop(keep=0.25, contextual=0.3), single(8, depth=8, batch=2)
    stop = policy.stops(8)[0]
    present = policy.plan(scene.seen_by(policy)).layers[stop - 1]
    count = policy.stage_counts(scene.seen_by(policy))[0]
    merged = int(0.3 * count + 0.5)
    scores, tokens, keys = noise(2, present, seed=1), noise(2, present, 8, seed=2), noise(2, present, 4, seed=3)
    view = FakeDecoderView(policy, scene, stop, tokens=tokens, keys=keys, attentions={"visual": scores})
    edit = policy.edit_decoder(view)
    assert edit is not None and edit.keep is not None and edit.values is not None and edit.reordered
    assert view.asked == [{"rows": "visual", "layer": "next"}]
    for sample in range(2):
        ranked = sorted(range(present), key=lambda token: -float(scores[sample, token]))
        dominant, rest = sorted(ranked[: count - merged]), sorted(ranked[count - merged :])
        step = max(1, len(rest) // merged)
        targets = [rest[index * step] for index in range(merged)]
        unit = normalize(keys[sample].double(), dim=-1)
        absorbed: dict[int, list[int]] = {target: [] for target in targets}
        for token in rest:
            if token not in absorbed:
                absorbed[max(targets, key=lambda target: float(unit[token] @ unit[target]))].append(token)
        expected = [
            tokens[sample, target] + (tokens[sample, own].mean(dim=0) if own else 0) for target, own in absorbed.items()
        ]
        assert edit.keep[sample].tolist() == dominant + targets
        torch.testing.assert_close(edit.values[sample, : count - merged], tokens[sample, dominant])
        torch.testing.assert_close(edit.values[sample, count - merged :], torch.stack(expected))


def test_the_released_split_of_32_tokens() -> None:
    policy, scene = VisionDrop(keep=32 / 576), single(24, depth=32).seen_by(VisionDrop())
    dominant, merged = policy.encoder(scene).split(576, scene)
    assert (dominant + 1, merged) == (42, 6)  # the class token is one of the dominant ones
    assert [(count - policy._merged(count), policy._merged(count)) for count in policy.stage_counts(scene)] == [
        (30, 5),
        (22, 4),
        (16, 3),
    ]


@pytest.mark.parametrize("cls", [True, False])
def test_the_first_stage_hands_over_what_is_planned(cls: bool) -> None:
    policy, scene = VisionDrop(keep=0.25), single(8, depth=8, cls=cls, batch=2)
    edit = policy.edit_image(FakeImageView(policy, scene))
    assert edit.keep is not None
    extra = 0 if edit.extra is None else edit.extra.shape[1]
    assert extra == int(cls)
    assert edit.keep.shape[1] + extra == policy.plan(scene.seen_by(policy)).layers[0] == 24


def test_video_begins_with_three_times_the_mean() -> None:
    scene = video(frames=4, side=6, depth=8)
    assert policy_first(VisionDrop(keep=0.1), scene) == pytest.approx(0.3)
    assert policy_first(VisionDrop(keep=0.1, first=2.0), scene) == pytest.approx(0.2)
    assert policy_first(VisionDrop(keep=0.1), single(6, depth=8)) == pytest.approx(0.15)


def policy_first(policy: VisionDrop, scene: object) -> float:
    return policy._first(scene)  # type: ignore[arg-type]


def test_no_merging_when_asked() -> None:
    policy, scene = VisionDrop(keep=0.25, contextual=0.0), single(8, depth=8)
    stop = policy.stops(8)[0]
    present = policy.plan(scene.seen_by(policy)).layers[stop - 1]
    view = FakeDecoderView(policy, scene, stop, present=present)
    edit = policy.edit_decoder(view)
    assert edit is not None and edit.values is None
    assert torch.equal(edit.keep[0], edit.keep[0].sort().values)  # type: ignore[index]
