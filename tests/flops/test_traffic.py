from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from tests.flops.shapes_by_hand import VICUNA, llava, plan, scene, tiles
from tests.models.tiny import TINY, tiny_entry
from tokprof import policies
from tokprof.flops.analytic import Request, arm_bytes, arm_flops, exact, prefill_flops, step_flops
from tokprof.flops.planning import Prompt, scene_of
from tokprof.flops.traffic import stage_bytes, storage, weight_values


def asked(new_tokens: int = 4, batch: int = 1, text: int = 24) -> Request:
    return Request(
        scene=scene(llava(), tiles(1), text=text, batch=batch), plan=plan((576, 2), (100, 30)), new_tokens=new_tokens
    )


def test_cache_bytes_are_keys_and_values_of_every_layers_own_length() -> None:
    entries = 2 * (576 + 24) + 30 * (100 + 24)
    assert storage(asked(batch=3), 2).kv_cache == 3 * entries * 2 * 4096 * 2


def test_a_decode_step_moves_weights_and_cache() -> None:
    """At batch 1 nearly nothing else: the classic bandwidth bound."""
    weights = 2 * (32 * VICUNA.layer_parameters + 4096 * 32000)
    cache_bytes = storage(asked(), 2).kv_cache
    step = stage_bytes(asked(), 2)["first_decode"]
    assert step == pytest.approx(weights + cache_bytes, rel=0.001)
    assert step > weights + cache_bytes


def test_later_steps_read_a_longer_cache() -> None:
    moved = stage_bytes(asked(new_tokens=4), 2)
    grown = 2 * 32 * VICUNA.kv_values_per_token
    assert moved["decode"] == 2 * moved["first_decode"] + (1 + 2) * grown


def test_the_heads_work_on_the_prompt_belongs_to_prefill_and_not_to_a_decode_step() -> None:
    last, everywhere = asked(new_tokens=2), replace(asked(new_tokens=2), head="all")
    assert step_flops(last) == step_flops(everywhere)
    assert step_flops(last) / stage_bytes(last, 2)["first_decode"] == pytest.approx(1, rel=0.01)
    for each in (last, everywhere):
        parts = exact(each).parts
        assert prefill_flops(each) + step_flops(each) == parts["prefill"] + parts["decode"] + parts["head"]
    more = stage_bytes(everywhere, 2)["prefill"] - stage_bytes(last, 2)["prefill"]
    assert more == 2 * (everywhere.prompt_positions - 1) * (4096 + 32000)


def test_stages_that_do_not_run_move_nothing() -> None:
    assert set(stage_bytes(asked(new_tokens=1), 2)) == {"vision", "project", "prefill"}
    assert "decode" not in stage_bytes(asked(new_tokens=2), 2)


def test_weights_are_read_once_whatever_the_batch() -> None:
    one, eight = stage_bytes(asked(), 2), stage_bytes(asked(batch=8), 2)
    assert eight["first_decode"] < 1.5 * one["first_decode"]
    assert eight["prefill"] < 8 * one["prefill"]


@pytest.mark.parametrize("family", TINY)
def test_weights_are_those_of_the_real_modules(family: str) -> None:
    """All matrices but position embeddings and, where there is one, the tower for the other kind of input."""
    from tests.flops.test_counted import on_meta

    skipped = ("position_embedding", "image_newline", "image_tower")
    real = {
        id(parameter): parameter.numel()
        for name, parameter in on_meta(family).model.named_parameters()
        if parameter.dim() > 1 and not any(word in name for word in skipped)
    }
    assert weight_values(tiny_entry(family).shape) == sum(real.values())


@cache
def picture(family: str = "llava-next") -> Request:
    tiny = scene_of(tiny_entry(family), Prompt(text=40))
    return Request(scene=tiny, plan=policies.build("dense").schedule(tiny))


def test_arms_of_a_record() -> None:
    here = picture().scene
    dense, fastv = policies.build("dense"), policies.build("fastv", keep=0.25)
    whole, part = arm_flops(dense, here, 5), arm_flops(fastv, here, 5)
    assert set(whole) == {"todre", "hidivdrop", "exact"}
    assert part["exact"]["prefill"] < whole["exact"]["prefill"]
    assert part["exact"]["vision"] == whole["exact"]["vision"]
    assert part["exact"]["selection"] > whole["exact"]["selection"] == 0
    assert arm_bytes(fastv, here, 5, 2)["decode"] < arm_bytes(dense, here, 5, 2)["decode"]
    assert arm_bytes(dense, here, 5, 4)["prefill"] == 2 * arm_bytes(dense, here, 5, 2)["prefill"]


def test_what_a_run_observed_replaces_the_plan() -> None:
    here = picture().scene
    todre = policies.build("todre", keep=0.5)
    most = arm_flops(todre, here, 5)
    least = arm_flops(todre, here, 5, observed_layers=todre.schedule(here).least)
    assert least["exact"]["prefill"] < most["exact"]["prefill"]
    observed = arm_flops(todre, here, 5, observed_layers=todre.schedule(here).layers)
    assert observed == most


@pytest.mark.parametrize("method", policies.names())
def test_keeping_everything_costs_what_the_dense_model_costs(method: str) -> None:
    here = picture().scene
    policy = policies.build(method, keep=1.0)
    if policy.identity:
        assert arm_flops(policy, here, 5) == arm_flops(policies.build("dense"), here, 5)
