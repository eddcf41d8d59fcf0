"""One budget for every method, from plans alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.policies.views import anyres, scene_of, video
from tokprof import budget, policies
from tokprof.errors import ParameterError
from tokprof.shapes import Block

PICTURE = scene_of(Block(rows=24, cols=24, side=24), depth=32, text=60, text_after=30)
INSIDE = ["fastv", "v2drop", "pdrop", "sparsevlm", "hidivdrop", "visiondrop", "twigvlm"]


@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize("tokens", [80, 192])
def test_layer_mean(name: str, tokens: int) -> None:
    solved = budget.solve(policies.find(name), {}, PICTURE, "layer-mean", tokens)
    assert solved.reached == policies.build(name, keep=solved.policy.keep).schedule(PICTURE).layer_mean
    assert abs(solved.off) < 0.01


@pytest.mark.parametrize(
    ("name", "metric"),
    [*((name, "kv-bytes") for name in [*INSIDE, "voco_llama"]), *((name, "flops") for name in INSIDE[:-1])],
)
def test_other_metrics_match_another_method(name: str, metric: str) -> None:
    target = budget.measure(metric, policies.build("fastv", keep=0.2), PICTURE, new_tokens=4)
    solved = budget.solve(policies.find(name), {}, PICTURE, metric, target, new_tokens=4)
    assert solved.reached == budget.measure(metric, solved.policy, PICTURE, new_tokens=4)
    assert abs(solved.off) < 0.01


def test_the_papers_words_take_the_papers_schedules() -> None:
    found = budget.solve(policies.find("v2drop"), {}, PICTURE, "layer-mean", 128, published=True)
    assert found.policy.keep == 128 / 576 and found.reached == 131.0
    exact = budget.solve(policies.find("v2drop"), {}, PICTURE, "layer-mean", 128)
    assert abs(exact.off) < abs(found.off)
    fastv = budget.solve(policies.find("fastv"), {}, PICTURE, "layer-mean", 192, published=True)
    assert fastv.policy.keep != 192 / 576  # its share is of what is left after the cut
    assert fastv.reached == pytest.approx(192, abs=0.5)


def test_what_was_chosen_is_said_in_the_budgets_own_unit() -> None:
    from tokprof.recipe import Method, Recipe
    from tokprof.resolve import budgets_in_words, with_matched_budgets

    methods = (Method(name="vtw", parameters={}), Method(name="fastv", parameters={}), Method(name="todre"))
    recipe = Recipe(models=("llava-1.5-7b",), methods=methods)  # type: ignore[call-arg]
    said = budgets_in_words(with_matched_budgets(recipe, "layer-mean"), "layer-mean")
    assert said[0] == "vtw keep=0.469: 270 visual tokens per layer"
    assert said[1] == "fastv keep=0.434: 270.4 visual tokens per layer"  # (2 · 576 + 30 · 250) / 32
    assert said[2] == "todre keep=0.469: at most 270 visual tokens per layer"
    assert budget.in_words("flops", 5.2e12) == "5.20 TFLOP"
    assert budget.in_words("kv-bytes", 3 << 20) == "3.00 MiB of cache per sample at 16 bits"


def test_other_parameters_stay() -> None:
    solved = budget.solve(policies.find("pdrop"), {"layers": "8,16,24"}, PICTURE, "layer-mean", 192)
    assert solved.policy.parameters()["layers"] == (8, 16, 24)
    assert solved.reached == pytest.approx(192, abs=1)


def test_newline_tokens_count() -> None:
    scene = anyres(6, depth=32)
    solved = budget.solve(policies.find("v2drop"), {}, scene, "layer-mean", 60)
    assert solved.reached == pytest.approx(60, abs=1)


def test_a_target_below_a_gap_in_what_a_method_accepts() -> None:
    """HiDivDrop reaches 17/32 of the tokens, nothing between that and all, and all."""
    solved = budget.solve(policies.find("hidivdrop"), {}, PICTURE, "layer-mean", 305)
    assert solved.reached == pytest.approx(305, rel=0.005)


@pytest.mark.parametrize(("name", "tokens"), [("v2drop", 30), ("hidivdrop", 450), ("fastv", 20), ("pdrop", 900)])
def test_out_of_reach(name: str, tokens: int) -> None:
    with pytest.raises(ParameterError) as found:
        budget.solve(policies.find(name), {}, PICTURE, "layer-mean", tokens)
    assert name in found.value.message and "nearest" in found.value.hint


def test_layers_beside_the_model_cost_flops() -> None:
    """A twig runs three layers on everything: no share of tokens makes it as cheap as FastV at 0.2."""
    target = budget.measure("flops", policies.build("fastv", keep=0.2), PICTURE)
    with pytest.raises(ParameterError):
        budget.solve(policies.find("twigvlm"), {}, PICTURE, "flops", target)


def test_coarse_steps_say_how_near_they_come() -> None:
    with pytest.raises(ParameterError) as found:
        budget.solve(policies.find("vtw"), {}, PICTURE, "layer-mean", 64)
    assert "54" in found.value.hint or "72" in found.value.hint


def test_video_and_its_frames() -> None:
    scene = video(32, 5, depth=28)
    solved = budget.solve(policies.find("dycoke"), {}, scene, "layer-mean", 400)
    assert abs(solved.off) < 0.05


def test_no_torch_is_needed() -> None:
    code = "import sys, tokprof.budget, tokprof.policies as p; p.names(); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
