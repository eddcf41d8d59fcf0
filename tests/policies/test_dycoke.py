from __future__ import annotations

import math

import pytest
import torch

from tests.policies.views import FakeCacheView, FakeImageView, noise, single, video
from tokprof.policies.dycoke import DyCoke, references


def test_which_frame_is_compared_with_which() -> None:
    assert references(video(9).layout, "official") == {0: None, 1: 0, 2: 0, 3: 2, 4: None, 5: 4, 6: None, 7: 6}
    assert references(video(9).layout, "paper") == {0: None, 1: 0, 2: 0, 3: 2, 4: None, 5: 4, 6: 4, 7: 6, 8: None}
    assert references(video(4).layout, "official") == {0: None, 1: 0, 2: None, 3: 2}
    assert references(single(4).layout, "official") is None


def least_alike(tokens: torch.Tensor, later: int, earlier: int, places: int, count: int) -> list[int]:
    """Places in a frame by ascending cosine with the same place of another frame."""

    def cosine(place: int) -> float:
        a, b = tokens[later * places + place].tolist(), tokens[earlier * places + place].tolist()
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    return sorted(range(places), key=cosine)[:count]


@pytest.mark.parametrize("temporal", ["official", "paper"])
def test_frames_against_plain_python(temporal: str) -> None:
    policy, scene = DyCoke(merging=0.5, temporal=temporal), video(9, 3, batch=2)  # type: ignore[arg-type]
    view = FakeImageView(policy, scene)
    edit = policy.edit_image(view)
    assert edit is not None and edit.keep is not None
    for sample in range(2):
        expected: list[int] = []
        for frame, earlier in (references(scene.layout, temporal) or {}).items():
            own = list(range(9))
            if earlier is not None:
                own = least_alike(view.tokens[sample].double(), frame, earlier, 9, 4)
                own = sorted(own) if temporal == "paper" else own
            expected += [frame * 9 + place for place in own]
        assert edit.keep[sample].tolist() == expected
    assert edit.keep.shape[1] == policy.plan(scene.seen_by(policy)).layers[0]


def test_one_picture_is_left_alone_until_decoding() -> None:
    policy = DyCoke(keep=0.5)
    assert policy.edit_image(FakeImageView(policy, single(4))) is None
    assert policy.cache_layer(28) == 3 and policy.cache_layer(8) == 1
    assert DyCoke(prune=0).cache_layer(28) is None


def test_the_cache_is_chosen_anew_when_attention_turns() -> None:
    policy, memory = DyCoke(prune=0.5), {}  # type: ignore[var-annotated]
    steps = [[0.4, 0.3, 0.2, 0.1], [0.3, 0.25, 0.28, 0.17], [0.0, 0.1, 0.4, 0.5]]
    chosen = []
    for step, attention in enumerate(steps):
        kept = policy.edit_cache(FakeCacheView(policy, step, torch.tensor([attention]), memory))
        assert kept is not None
        chosen.append(kept[0].tolist())
    assert chosen == [[0, 1], [0, 1], [2, 3]]  # the second step is alike (cosine 0.95): the first choice stays


def test_each_sample_turns_for_itself() -> None:
    policy, memory = DyCoke(prune=0.5), {}  # type: ignore[var-annotated]
    first = torch.tensor([[0.4, 0.3, 0.2, 0.1]] * 2)
    policy.edit_cache(FakeCacheView(policy, 0, first, memory))
    turned = policy.edit_cache(FakeCacheView(policy, 1, torch.stack((first[0], first[0].flip(0))), memory))
    assert turned is not None and turned.tolist() == [[0, 1], [2, 3]]


def test_official_reuse_reads_everything_while_attention_stays() -> None:
    policy, memory = DyCoke(prune=0.5, reuse="official"), {}  # type: ignore[var-annotated]
    assert policy.data_decided and not DyCoke().data_decided
    same = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    assert policy.edit_cache(FakeCacheView(policy, 0, same, memory)) is not None
    assert policy.edit_cache(FakeCacheView(policy, 1, same, memory)) is None
    assert policy.edit_cache(FakeCacheView(policy, 2, same.flip(1), memory)) is not None


def test_how_many_entries_a_step_reads() -> None:
    kept = DyCoke().edit_cache(FakeCacheView(DyCoke(), 0, noise(1, 100).exp()))
    assert kept is not None and kept.shape == (1, 30)


def test_what_decoding_reads_is_planned() -> None:
    plan = DyCoke(merging=0.5, prune=0.7).schedule(video(8, 3, depth=8))  # one newline token beside the frames
    total = 4 * 9 + 4 * 4 - (9 - 4)  # frames 0, 2, 4 and 6 whole, less frame 2
    assert plan.layers == (total + 1,) * 8
    assert plan.read == (total + 1,) + (int(0.3 * total) + 1,) * 7
    assert DyCoke(merging=0.5, prune=0).schedule(video(8, 3, depth=8)).read is None


def test_nothing_waits_for_the_device() -> None:
    """On the meta device a read of any value raises."""
    policy, scene = DyCoke(merging=0.5), video(8, 3)
    edit = policy.edit_image(FakeImageView(policy, scene, tokens=torch.empty(1, 72, 8, device="meta")))
    assert edit is not None and edit.keep is not None and edit.keep.is_meta
    memory: dict[str, torch.Tensor] = {}
    for step in range(2):
        kept = policy.edit_cache(FakeCacheView(policy, step, torch.empty(1, 50, device="meta"), memory))
        assert kept is not None and kept.shape == (1, 15)
