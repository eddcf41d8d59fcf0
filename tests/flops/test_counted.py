"""Exact = counted, part by part: the engine's loop over Hugging Face's modules on the meta device."""

from __future__ import annotations

import sys
from functools import cache

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.models.tiny import TINY, tiny_entry
from tokprof import policies
from tokprof.errors import ParityError, TokprofError, UnsupportedError
from tokprof.flops import counted
from tokprof.flops.analytic import PARTS, exact, request
from tokprof.flops.planning import Case, Prompt, case, dense
from tokprof.flops.residuals import Residuals, Uncounted, prepare, residual_of
from tokprof.models import catalog, load
from tokprof.models.huggingface import HuggingFaceAdapter

PROMPT = Prompt(text=60, new_tokens=3, batch=2)


@cache
def on_meta(family: str) -> HuggingFaceAdapter:
    return load(tiny_entry(family), "random", device="meta")


def residuals(family: str, method: str, prompt: Prompt = PROMPT, **parameters: object) -> Residuals:
    found = residual_of(on_meta(family), built(family, method, prompt, **parameters), prompt)
    assert isinstance(found, Residuals)
    return found


def built(family: str, method: str, prompt: Prompt = PROMPT, **parameters: object) -> Case:
    return case(tiny_entry(family), method, parameters, prompt, causal="full", head="last")


def assert_agrees(adapter: HuggingFaceAdapter, asked: Case, prompt: Prompt) -> counted.Counted:
    """Part by part, with attention as a dense kernel computes it and as a causal one does."""
    prepared = prepare(adapter, asked.policy, prompt)
    found = counted.count(adapter, asked.policy, prepared, prompt.new_tokens)
    assert not found.unknown_matrix_work
    for causal in ("full", "half"):
        formula = exact(request(asked.policy, prepared.scene, prompt.new_tokens, causal=causal)).parts  # type: ignore[arg-type]
        seen = found.causal(causal)
        for part in PARTS:
            assert formula[part] == pytest.approx(seen[part], rel=0.001), f"{asked.label}, {causal}: {part}"
    return found


@pytest.mark.parametrize("family", TINY)
def test_dense(family: str) -> None:
    found = assert_agrees(on_meta(family), built(family, "dense"), PROMPT)
    assert found.parts["selection"] == 0
    assert min(found.parts[part] for part in PARTS if part != "selection") > 0
    assert 0 < found.masked["prefill"] < found.parts["prefill"] / 2
    assert sum(found.masked.values()) == found.masked["prefill"], "only prefill has a causal square"


@pytest.mark.parametrize("family", ["onevision", "qwen2-vl", "qwen2.5-vl", "video-llava"])
def test_dense_on_video(family: str) -> None:
    video = Prompt(text=60, new_tokens=2, frames=4)
    assert_agrees(on_meta(family), built(family, "dense", video), video)


@pytest.mark.parametrize("method", policies.names())
def test_every_method_with_a_fixed_plan(method: str) -> None:
    """Methods that let data decide say so instead."""
    for parameters in ({"keep": 0.5}, {}):
        try:
            asked = built("llava-next", method, **parameters)
        except TokprofError:
            continue
        if asked.policy.data_decided:
            assert isinstance(residual_of(on_meta("llava-next"), asked, PROMPT), Uncounted)
        else:
            assert_agrees(on_meta("llava-next"), asked, PROMPT)
        return
    pytest.fail(f"{method} refuses LLaVA-NeXT's tiles")


@pytest.mark.parametrize(
    ("family", "method", "parameters"),
    [
        ("onevision", "visionzip", {"keep": 0.5}),
        ("onevision", "visiondrop", {"keep": 0.5}),
        ("qwen2-vl", "fastv", {"keep": 0.5}),
        ("qwen2.5-vl", "pdrop", {"keep": 0.6}),
        ("llava-next-grouped", "sparsevlm", {"keep": 0.6}),
        ("llava", "todre", {"keep": 0.5, "exit_layer": 4}),
        ("video-llava", "hidivdrop", {"keep": 0.3}),
        ("llava", "tome", {"keep": 0.5}),
    ],
)
def test_methods_on_other_families(family: str, method: str, parameters: dict[str, object]) -> None:
    assert_agrees(on_meta(family), built(family, method, **parameters), PROMPT)


@pytest.mark.slow
@pytest.mark.parametrize("model", catalog.names())
def test_every_model_with_every_method_at_full_size(model: str) -> None:
    entry, prompt = catalog.find(model), Prompt(new_tokens=2)
    adapter = load(entry, "random", device="meta", dtype=torch.bfloat16)
    for method in policies.names():
        try:
            asked = case(entry, method, {"keep": 0.25}, prompt, causal="full", head="last")
        except TokprofError:
            continue
        if not asked.policy.data_decided:
            assert_agrees(adapter, asked, prompt)


def test_counted_attention_is_not_linear_in_the_tokens() -> None:
    """A counter that misses attention would see twice the work for twice the text."""

    def counted_prefill(text: int) -> int:
        return residuals("llava", "dense", Prompt(text=text, new_tokens=1)).counted["prefill"]

    small, middle, large = (counted_prefill(text) for text in (40, 140, 240))
    decoder = tiny_entry("llava").shape.decoder
    assert large - 2 * middle + small == 2 * decoder.depth * 2 * decoder.query_width * 2 * 100**2


def test_attention_counted_as_zero_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = {torch.ops.aten.bmm: lambda *_, **__: 0}
    monkeypatch.setattr(counted, "EXTRA_FORMULAS", {**counted.EXTRA_FORMULAS, **blind})
    with pytest.raises(ParityError, match="counts nothing for attention"):
        residuals("llava", "dense")


def test_operators_without_a_formula_are_listed_and_matrix_work_among_them_is_not_silent() -> None:
    found = residuals("llava", "dense")
    assert {"silu", "mul", "argmax"} <= set(found.without_formula)
    suspicious = counted.Counted(
        parts={}, masked={}, without_formula={"add": 3, "_cdist_forward": 2}, attention_calls=0, per_layer=()
    )
    assert suspicious.unknown_matrix_work == {"_cdist_forward": 2}


def test_a_method_that_lets_data_decide_is_refused_with_a_way_out() -> None:
    asked = built("llava", "todre", keep=0.5)
    with pytest.raises(UnsupportedError, match="todre decides by its data") as refused:
        counted.count(on_meta("llava"), asked.policy, prepare(on_meta("llava"), asked.policy, PROMPT), 2)
    assert "parameter" in refused.value.hint
    found = residual_of(on_meta("llava"), asked, PROMPT)
    assert isinstance(found, Uncounted)
    assert 0 < found.least < found.most


def test_the_head_runs_once_per_new_token() -> None:
    found = residuals("llava", "dense")
    decoder = tiny_entry("llava").shape.decoder
    assert found.counted["head"] == 2 * PROMPT.batch * PROMPT.new_tokens * decoder.width * decoder.vocab


def test_text_and_pictures_as_asked() -> None:
    adapter, policy = on_meta("llava-next"), dense(tiny_entry("llava-next"), PROMPT, causal="full", head="last").policy
    fixed = Prompt(text=50, visual=180, new_tokens=2)
    prepared = prepare(adapter, policy, fixed)
    assert (prepared.scene.text, prepared.layout.count) == (50, 180)
    with pytest.raises(UnsupportedError, match="no picture of exactly 181"):
        prepare(adapter, policy, Prompt(text=50, visual=181))
    with pytest.raises(TokprofError, match="--text 3 with --count"):
        prepare(adapter, policy, Prompt(text=3))


@pytest.mark.parametrize("family", ["llava-next", "onevision", "qwen2.5-vl"])
def test_fvcore_agrees_once_the_units_are_equal(family: str) -> None:
    pytest.importorskip("fvcore")
    asked = built(family, "v2drop", keep=0.5)
    found = residual_of(on_meta(family), asked, PROMPT, second_opinion=True)
    assert isinstance(found, Residuals)
    assert found.second_opinion == sum(found.counted.values())


def test_without_fvcore_there_is_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)
    with pytest.raises(UnsupportedError, match="fvcore is not installed"):
        residual_of(on_meta("llava"), built("llava", "dense"), PROMPT, second_opinion=True)


def test_matrix_times_vector_is_counted_although_torch_has_no_formula() -> None:
    matrix, vector = torch.empty(5, 6, device="meta"), torch.empty(6, device="meta")
    with FlopCounterMode(display=False, custom_mapping=counted.EXTRA_FORMULAS) as counter:
        torch.mv(matrix, vector)
    assert counter.get_total_flops() == 2 * 5 * 6
