"""Schedules that papers and official code have: 576 visual tokens, 32 layers unless said."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.policies.views import scene_of
from tokprof import policies
from tokprof.models import catalog
from tokprof.policies.base import Scene
from tokprof.policies.dycoke import DyCoke
from tokprof.policies.sparsevlm import SparseVLM
from tokprof.policies.v2drop import V2Drop
from tokprof.shapes import Block


def picture(depth: int = 32, tokens: int = 576) -> Scene:
    return scene_of(Block(rows=24, cols=tokens // 24, side=24, resampled=tokens != 576), depth=depth)


def film(frames: int, places: int = 196) -> Scene:
    blocks = (Block(rows=14, cols=places // 14, side=27, frame=frame, resampled=True) for frame in range(frames))
    return scene_of(*blocks, depth=28, videos=True)


def runs(name: str, scene: Scene, **parameters: Any) -> list[tuple[int, int]]:
    """[(layers, tokens), …]"""
    policy = policies.build(name, **parameters)
    policy.check(scene.seen_by(policy))
    found: list[tuple[int, int]] = []
    for count in policy.schedule(scene).layers:
        if found and found[-1][1] == count:
            found[-1] = (found[-1][0] + 1, count)
        else:
            found.append((1, count))
    return found


@pytest.mark.parametrize(
    ("name", "parameters", "expected", "mean"),
    [
        ("v2drop", {"keep": 192 / 576}, [(3, 576), (14, 288), (5, 86), (10, 1)], 193.75),
        ("v2drop", {"keep": 0.333, "least": 0}, [(3, 576), (14, 288), (5, 86), (10, 0)], 193.4375),
        ("v2drop", {"keep": 0.222}, [(3, 576), (14, 161), (5, 40), (10, 1)], 131.0),
        ("v2drop", {"keep": 0.111}, [(3, 576), (14, 28), (15, 1)], 66.71875),
        ("v2drop", {"ratios": "0.5,0.5,0"}, [(3, 576), (14, 288), (5, 144), (10, 1)], 202.8125),
        ("fastv", {"keep": 166 / 576}, [(2, 576), (30, 166)], 191.625),
        ("fastv", {"keep": 0.25, "layers": 3}, [(3, 576), (29, 144)], 184.5),
        ("vtw", {}, [(15, 576), (17, 0)], 270.0),
        ("pdrop", {}, [(8, 576), (8, 288), (8, 144), (8, 72)], 270.0),
        ("pdrop", {"keep": 192 / 576}, [(2, 576), (6, 322), (8, 180), (16, 100)], 191.375),
        ("pdrop", {"keep": 128 / 576}, [(2, 576), (6, 241), (8, 101), (16, 42)], 127.4375),
        ("pdrop", {"keep": 80 / 576}, [(2, 576), (6, 152), (8, 40), (16, 10)], 79.5),
        ("pdrop", {"keep": 64 / 576}, [(2, 576), (6, 110), (8, 21), (16, 4)], 63.875),
        ("pdrop", {"keep": 192 / 576, "layers": "8,16,24"}, [(8, 576), (8, 145), (8, 36), (8, 9)], 191.5),
        ("sparsevlm", {"keep": 192 / 576}, [(3, 576), (4, 309), (9, 204), (16, 113)], 206.5),
        ("sparsevlm", {"keep": 128 / 576}, [(3, 576), (4, 312), (9, 117), (16, 39)], 145.40625),
        ("sparsevlm", {"keep": 96 / 576}, [(3, 576), (4, 249), (9, 55), (16, 27)], 114.09375),
        ("sparsevlm", {"keep": 64 / 576}, [(3, 576), (4, 82), (9, 32), (16, 18)], 82.25),
        ("visiondrop", {"keep": 32 / 576}, [(8, 48), (8, 35), (8, 26), (8, 19)], 32.0),
        ("visiondrop", {"keep": 64 / 576}, [(8, 96), (8, 70), (8, 52), (8, 38)], 64.0),
        ("visiondrop", {"keep": 128 / 576}, [(8, 192), (8, 141), (8, 103), (8, 76)], 128.0),
        ("visiondrop", {"keep": 192 / 576}, [(8, 288), (8, 211), (8, 155), (8, 114)], 192.0),
        ("hidivdrop", {"keep": 80 / 576}, [(8, 0), (2, 576), (4, 245), (2, 104), (2, 44), (7, 19), (7, 0)], 80.03125),
        ("hidivdrop", {}, [(8, 0), (2, 576), (4, 178), (2, 55), (2, 17), (7, 5), (7, 0)], 63.84375),
        ("hidivdrop", {"keep": 48 / 576}, [(8, 0), (2, 576), (4, 88), (2, 13), (2, 2), (7, 1), (7, 0)], 48.15625),
        (
            "hidivdrop",
            {"preset": "C"},
            [(9, 0), (1, 576), (4, 252), (2, 110), (2, 48), (7, 21), (7, 0)],
            63.96875,
        ),
        (
            "hidivdrop",
            {"preset": "mobilellama"},
            [(14, 0), (2, 576), (3, 199), (3, 68), (3, 24), (3, 8), (4, 0)],
            64.03125,
        ),
        (
            "hidivdrop",
            {"tokens": "64,8,1", "layers": "12,16,20", "entry": 8, "exit": 25},
            [(8, 0), (4, 576), (4, 64), (4, 8), (5, 1), (7, 0)],
            81.15625,
        ),
        ("hidivdrop", {"keep": 1.0, "entry": 8, "exit": 25}, [(8, 0), (17, 576), (7, 0)], 306.0),
        ("hidivdrop", {"keep": 1.0, "entry": 10, "exit": "never"}, [(10, 0), (22, 576)], 396.0),
        (
            "hidivdrop",
            {"tokens": "64,8,1", "layers": "12,16,20", "exit": "never"},
            [(8, 0), (4, 576), (4, 64), (4, 8), (12, 1)],
            81.375,
        ),
        ("twigvlm", {"keep": 192 / 576}, [(2, 576), (22, 227), (8, 0)], 192.0625),
        ("twigvlm", {"keep": 128 / 576}, [(2, 576), (22, 134), (8, 0)], 128.125),
        ("twigvlm", {"keep": 64 / 576}, [(2, 576), (22, 41), (8, 0)], 64.1875),
        ("voco_llama", {}, [(32, 2)], 2.0),
    ],
)
def test_published_schedules(
    name: str, parameters: dict[str, Any], expected: list[tuple[int, int]], mean: float
) -> None:
    assert runs(name, picture(), **parameters) == expected
    assert policies.build(name, **parameters).schedule(picture()).layer_mean == mean


def test_v2drop_on_28_layers() -> None:
    scene = picture(28, 2400)
    assert runs("v2drop", scene, keep=0.226) == [(3, 2400), (13, 600), (6, 30), (6, 1)]
    assert V2Drop(keep=0.226).schedule(scene).layer_mean / 2400 == pytest.approx(0.2259, abs=2e-4)


@pytest.mark.parametrize(("share", "first"), [(1 / 3, 0.476), (0.25, 0.301), (0.222, 0.242), (0.15, 0.090)])
def test_v2drop_derives_other_budgets_on_28_layers(share: float, first: float) -> None:
    ratios = V2Drop(keep=share).stop_ratios(28)
    assert ratios[0] == pytest.approx(first, abs=6e-4)
    assert ratios[1:] == (0.05, 0.0)


def test_sparsevlm_shows_the_papers_count_too() -> None:
    means = [SparseVLM(keep=budget / 576).published_mean(picture()) for budget in (192, 128, 96, 64)]
    assert means == [192.03125, 128.625, 96.9375, 64.8125]


def test_fastv_rounds_half_to_even() -> None:
    assert runs("fastv", scene_of(Block(rows=5, cols=29, side=29), depth=32), keep=0.5) == [(2, 145), (30, 72)]


def test_visiondrop_on_video_hands_over_three_times_the_mean() -> None:
    scene = film(32)
    counts = runs("visiondrop", scene, keep=256 / 6272, layers="7,14,21")
    assert counts == [(7, 768), (7, 194), (7, 49), (7, 12)]


@pytest.mark.parametrize(("merging", "expected"), [(0.5, 4018), (0.7, 3098), (0.9, 2201)])
def test_dycoke_as_coded_at_32_frames(merging: float, expected: int) -> None:
    assert runs("dycoke", film(32), merging=merging) == [(28, expected)]


def test_dycoke_frames() -> None:
    whole = 196
    assert runs("dycoke", film(32), merging=0.7, temporal="paper") == [(28, 8 * whole + 24 * 58)]
    assert runs("dycoke", film(7), merging=0.7) == [(28, 2 * whole + 4 * 58)]  # the odd last frame is lost
    assert runs("dycoke", film(7), merging=0.7, temporal="paper") == [(28, 2 * whole + 5 * 58)]
    assert runs("dycoke", film(4), merging=0.7) == [(28, 2 * whole + 2 * 58)]
    assert runs("dycoke", picture(), keep=0.3) == [(32, 576)]  # one picture: only decoding changes
    assert DyCoke().schedule(film(32)).layer_mean == 3098  # the default is the published K = 0.7


@pytest.mark.parametrize("name", ["v2drop", "pdrop", "sparsevlm", "visiondrop", "hidivdrop"])
@pytest.mark.parametrize("depth", [8, 28, 32, 40])
@pytest.mark.parametrize("share", [0.15, 0.27, 0.4, 0.45])
def test_keep_is_the_layer_mean(name: str, depth: int, share: float) -> None:
    scene = picture(depth, 2400)
    policy = policies.build(name, keep=share)
    layers = policy.schedule(scene).layers
    assert sum(layers) / depth / 2400 == pytest.approx(share, abs=0.004)
    assert all(after <= before for before, after in itertools.pairwise(layers) if before)


def test_twig_layers_are_planned_apart() -> None:
    policy = policies.build("twigvlm")
    assert tuple(policy.side_layers(32)) == (2, 3, 4)
    assert policy.side_stop(32) == 2
    assert policy.schedule(picture()).side_layers == (576, 576, 576)


def test_voco_keeps_the_text_behind_only() -> None:
    scene = picture()
    policy = policies.build("voco_llama", keep=0.1)
    assert policy.compress_tokens(scene) == 58
    assert policy.schedule(scene).cached_text == scene.text_after


def test_hidivdrop_takes_mobilellamas_layers_on_its_decoder_only() -> None:
    open_, published = policies.build("hidivdrop"), policies.build("hidivdrop", preset="mobilellama")
    models = {name: catalog.find(name).shape for name in ("llava-1.5-mobilellama-2.7b", "llava-1.5-7b")}
    assert open_.on(models["llava-1.5-mobilellama-2.7b"]) == published
    assert open_.on(models["llava-1.5-7b"]).plan(picture()) == policies.build("hidivdrop", preset="P").plan(picture())
    for preset in ("P", "C"):  # what the user says holds
        asked = policies.build("hidivdrop", preset=preset)
        assert asked.on(models["llava-1.5-mobilellama-2.7b"]) == asked


def test_a_run_and_a_count_take_the_models_own_layers() -> None:
    from tokprof.flops.planning import Prompt, case
    from tokprof.recipe import Cell, Measurement, Method, Setting, Workload
    from tokprof.resolve import ready

    model = "llava-1.5-mobilellama-2.7b"
    cell = Cell(
        model=model,
        method=Method(name="hidivdrop", parameters={}),
        workload=Workload(),  # type: ignore[call-arg]
        setting=Setting(),
        measurement=Measurement(),
    )
    counted = case(catalog.find(model), "hidivdrop", {}, Prompt(), causal="full", head="last")
    assert counted.policy.entry_layer(32) == ready(cell).policy.entry_layer(32) == 14
