"""Where stops lie on other depths, and what lists a command line may hand in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.policies.views import single
from tokprof import policies
from tokprof.errors import ParameterError, UnsupportedError
from tokprof.policies.base import Policy
from tokprof.policies.stages import bisect, integers, layer_share, numbers, scaled


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(32, (3, 17, 22)), (28, (3, 15, 19)), (40, (4, 21, 28)), (8, (1, 4, 6)), (4, (1, 2, 3)), (2, (1,))],
)
def test_stops_scale_with_the_depth(depth: int, expected: tuple[int, ...]) -> None:
    assert scaled((3, 17, 22), 32, depth) == expected


def test_crowded_stops_keep_their_order_and_fit() -> None:
    assert scaled((10, 14, 16, 18), 32, 8, first=3, last=5) == (3, 4, 5)


@pytest.mark.parametrize("value", ["3,17,22", "3, 17, 22", [3, 17, 22], (3.0, 17, 22)])
def test_lists_in_every_spelling(value: Any) -> None:
    assert integers(value, "m", "layers") == (3, 17, 22)


def test_single_numbers_and_nothing() -> None:
    assert numbers(0.5, "m", "ratios") == numbers("0.5", "m", "ratios") == (0.5,)
    assert numbers("", "m", "ratios") == numbers((), "m", "ratios") == ()


@pytest.mark.parametrize("value", ["3;17", "a", None, [None], {"a": 1}])
def test_no_lists(value: Any) -> None:
    with pytest.raises(ParameterError):
        numbers(value, "m", "layers")


@pytest.mark.parametrize("value", ["2.5", "-1"])
def test_no_layers(value: str) -> None:
    with pytest.raises(ParameterError):
        integers(value, "m", "layers")


def test_layer_share_by_hand() -> None:
    assert layer_share(8, (2, 4), (0.5, 0.25)) == (2 + 2 * 0.5 + 4 * 0.25) / 8
    assert layer_share(8, (4, 6), (0.5, 0.0), first=3) == (1 + 2 * 0.5) / 8


def test_bisect_finds_and_saturates() -> None:
    assert bisect(lambda x: x * x, 0.25) == pytest.approx(0.5, abs=1e-12)
    assert bisect(lambda x: x, 7.0) == 1.0


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("v2drop", {"layers": "5,3"}),
        ("v2drop", {"layers": "3,3"}),
        ("v2drop", {"ratios": "1.5"}),
        ("v2drop", {"metric": "l3"}),
        ("fastv", {"query": "first"}),
        ("pdrop", {"lambda_": 1.0}),
        ("hidivdrop", {"tokens": "5,10"}),
        ("hidivdrop", {"preset": "D"}),
        ("hidivdrop", {"exit": "soon"}),
        ("twigvlm", {"twig": 0}),
        ("twigvlm", {"layers": "2"}),
        ("voco_llama", {"tokens": 0}),
        ("visiondrop", {"first": 0.5}),
        ("dycoke", {"merging": 1.0}),
        ("dycoke", {"newlines": "candidates"}),
        ("vtw", {"positions": "none"}),
    ],
)
def test_parameters_out_of_range(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(ParameterError) as found:
        policies.build(name, **parameters)
    assert name in found.value.message and found.value.hint


@pytest.mark.parametrize(
    "policy",
    [
        policies.build("v2drop", keep=0.05),  # the layers before the first stop hold an eighth
        policies.build("hidivdrop", keep=0.6),  # its layers with visual tokens are half of all
        policies.build("twigvlm", keep=0.8),
        policies.build("v2drop", layers="3,8"),
        policies.build("vtw", layers="9"),
        policies.build("hidivdrop", entry=4, layers="3,5"),
        policies.build("hidivdrop", tokens="8,4"),
    ],
    ids=lambda policy: f"{policy.name} {policy.settings()}",
)
def test_what_does_not_fit_the_model_is_refused(policy: Policy) -> None:
    scene = single(4, depth=8)
    with pytest.raises(ParameterError) as found:
        policy.check(scene.seen_by(policy))
    assert found.value.hint


@pytest.mark.parametrize("name", ["fastv", "pdrop", "hidivdrop", "sparsevlm", "twigvlm", "voco_llama"])
def test_no_text_behind_the_picture(name: str) -> None:
    policy = policies.build(name, keep=0.4)
    with pytest.raises(UnsupportedError):
        policy.check(single(4, depth=8, text_after=0).seen_by(policy))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("v2drop", {"ratios": "0.5,0.3,0"}),
        ("pdrop", {"lambda_": 0.5}),
        ("hidivdrop", {"tokens": "12,6,3"}),
        ("sparsevlm", {"tokens": "12,6,3"}),
        ("vtw", {"layers": 4}),
        ("voco_llama", {"tokens": 2}),
    ],
)
def test_explicit_numbers_act_without_keep(name: str, parameters: dict[str, Any]) -> None:
    assert policies.build(name, keep=1.0).identity
    policy = policies.build(name, keep=1.0, **parameters)
    assert not policy.identity
    assert policy.schedule(single(4, depth=8)).layer_mean < 16
