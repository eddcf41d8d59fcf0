"""Golden values of the papers, from shapes written down by hand."""

from __future__ import annotations

import pytest

from tests.flops.shapes_by_hand import CLIP, MOBILELLAMA, QWEN2, VICUNA, VICUNA_13B, llava, plan, scene, tiles
from tokprof import published
from tokprof.errors import UnknownNameError
from tokprof.flops import work
from tokprof.flops.analytic import CONVENTIONS, Request, count, equation_1, equation_2, exact, hidivdrop, todre
from tokprof.policies.base import Plan

TERA = 1e12


def test_todre_equation_1_at_2880_tokens() -> None:
    asked = Request(scene=scene(llava(), tiles(5), text=0), plan=plan((2880, 32)), new_tokens=1)
    assert todre(asked).parts["prefill"] == 32 * (4 * 2880 * 4096**2 + 2 * 2880**2 * 4096 + 2 * 2880 * 4096 * 11008)
    assert todre(asked).parts["prefill"] / TERA == pytest.approx(16.67, abs=0.005)
    assert exact(asked).parts["prefill"] / TERA == pytest.approx(41.65, abs=0.005)


def test_todre_equation_2_is_the_sum_it_abbreviates() -> None:
    n, d, m, outputs = 3000, 4096, 11008, 20
    one_by_one = sum(4 * d**2 + 2 * d * (n + t - 1) + 2 * d * m for t in range(1, outputs + 1))
    assert equation_2(n, d, m, outputs) == one_by_one


@pytest.mark.parametrize(
    ("decoder", "giga_prefill", "giga_decode"), [(VICUNA, 17458.8, 116.4), (VICUNA_13B, 33256.2, 221.8)]
)
def test_todre_prefill_to_decode_is_150_to_1(decoder, giga_prefill, giga_decode) -> None:  # type: ignore[no-untyped-def]
    prefill = decoder.depth * equation_1(3000, decoder.width, decoder.ffn) / 1e9
    decode = decoder.depth * equation_2(3000, decoder.width, decoder.ffn, 20) / 1e9
    assert prefill == pytest.approx(giga_prefill, abs=0.1)
    assert decode == pytest.approx(giga_decode, abs=0.1)
    assert prefill / decode == pytest.approx(150, abs=0.1)


@pytest.mark.parametrize(
    ("decoder", "steps", "printed", "half_step"),
    [
        (VICUNA, [(576, 32)], 3.817, 0.0005),
        (VICUNA, [(576, 8), (288, 8), (144, 8), (72, 8)], 1.777, 0.0005),
        (VICUNA, [(0, 8), (576, 2), (178, 4), (55, 2), (17, 2), (5, 7), (0, 7)], 0.42, 0.005),
        (MOBILELLAMA, [(576, 32)], 1.52, 0.005),
        (MOBILELLAMA, [(576, 8), (288, 8), (144, 8), (72, 8)], 0.70, 0.005),
        (MOBILELLAMA, [(0, 14), (576, 2), (199, 3), (68, 3), (24, 3), (8, 3), (0, 4)], 0.17, 0.005),
    ],
)
def test_hidivdrop_table_2(decoder, steps, printed, half_step) -> None:  # type: ignore[no-untyped-def]
    asked = Request(scene=scene(llava(decoder), tiles(1), text=66), plan=plan(*steps))
    assert hidivdrop(asked).total / TERA == pytest.approx(printed, abs=half_step)


@pytest.mark.parametrize(
    ("tile_count", "steps", "printed"),
    [
        (1, [(576, 32)], 9.06),
        (1, [(96, 8), (70, 8), (52, 8), (38, 8)], 2.11),
        (5, [(2928, 32)], 46.25),
        (5, [(528, 8), (400, 8), (306, 8), (238, 8)], 7.70),
    ],
)
def test_visiondrop_table_4_is_exact_with_the_head_everywhere(tile_count, steps, printed) -> None:  # type: ignore[no-untyped-def]
    asked = Request(
        scene=scene(llava(), tiles(tile_count), text=66), plan=plan(*steps), new_tokens=1, head="all", causal="full"
    )
    assert exact(asked).total / TERA == pytest.approx(printed, rel=0.02)


def test_clip_tower_by_equation_1() -> None:
    """190.6 GMACs per tile in full depth; the engine runs one block less, and a patch embedding."""
    assert CLIP.depth * equation_1(577, 1024, 4096) / 1e9 == pytest.approx(190.6, abs=0.05)
    blocks = CLIP.layers_run * equation_1(577, 1024, 4096)
    assert work.vision_macs(CLIP, tiles(1)) == blocks + 576 * 3 * 14 * 14 * 1024


def test_grouped_queries_and_the_papers_formula() -> None:
    """4nd² + 3ndm over-counts a Qwen2-7B layer by 9.4 %."""
    d, m = QWEN2.width, QWEN2.ffn
    assert (4 * d**2 + 3 * d * m) / QWEN2.layer_parameters == pytest.approx(1.094, abs=0.0005)


def test_head_and_causal_switches() -> None:
    base = {"scene": scene(llava(), tiles(1), text=24), "plan": plan((576, 32)), "new_tokens": 5}
    last, every = exact(Request(**base)), exact(Request(**base, head="all"))  # type: ignore[arg-type]
    assert every.parts["head"] - last.parts["head"] == 2 * 599 * 4096 * 32000
    assert last.parts["head"] == 2 * 5 * 4096 * 32000
    half = exact(Request(**base, causal="half"))  # type: ignore[arg-type]
    masked = 600 * 599 // 2
    assert last.parts["prefill"] - half.parts["prefill"] == 2 * 32 * 2 * 4096 * masked
    assert last.parts["vision"] == half.parts["vision"], "a picture has no causality"


def test_decode_steps_see_each_layers_own_cache() -> None:
    asked = Request(scene=scene(llava(), tiles(1), text=24), plan=plan((576, 2), (100, 30)), new_tokens=3)
    linear = 2 * 32 * VICUNA.layer_parameters
    attention = sum(2 * 4096 * (24 + tokens + step) for tokens in asked.plan.layers for step in (1, 2))
    assert exact(asked).parts["decode"] == 2 * (linear + attention)


def test_work_is_proportional_to_the_batch() -> None:
    one = Request(scene=scene(llava(), tiles(1), text=24), plan=plan((576, 32)))
    four = Request(scene=scene(llava(), tiles(1), text=24, batch=4), plan=plan((576, 32)))
    for name in CONVENTIONS:
        assert count(name, four).total == 4 * count(name, one).total


@pytest.mark.parametrize("convention", list(CONVENTIONS))
def test_prefill_layers_sum_to_their_part_and_grow_faster_than_the_tokens(convention: str) -> None:
    """Without attention the second difference in n would be zero."""

    def prefill(tokens: int) -> int:
        asked = Request(scene=scene(llava(), tiles(5), text=0), plan=plan((tokens, 32)))
        work_ = count(convention, asked)
        assert sum(work_.layers) == work_.parts["prefill"]
        return work_.parts["prefill"]

    curvature = prefill(3000) - 2 * prefill(2000) + prefill(1000)
    factor = 2 if convention == "exact" else 1
    assert curvature == factor * 32 * 2 * 4096 * 2 * 1000**2


def test_observed_layers_replace_the_plan_of_a_method_that_lets_data_decide() -> None:
    asked = Request(scene=scene(llava(), tiles(1), text=24), plan=Plan(layers=(576,) * 32, least=(0,) * 32))
    assert not asked.plan.exact
    assert exact(Request(scene=asked.scene, plan=plan((576, 32)))).total == exact(asked).total


def test_unknown_convention() -> None:
    asked = Request(scene=scene(llava(), tiles(1), text=24), plan=plan((576, 32)))
    with pytest.raises(UnknownNameError, match="exakt"):
        count("exakt", asked)


def test_every_printed_schedule_has_its_models_depth() -> None:
    for row in published.rows("schedules"):
        depth = 28 if row["model"] == "qwen2-vl-7b" else 32
        assert len(published.schedule(row["method"], row["model"], row["label"])) == depth
