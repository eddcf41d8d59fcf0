"""Prompts of every shape: text before, behind and between pictures, or none behind; dense as Hugging Face has it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from tests.models.tiny import tiny, tiny_entry
from tokprof import policies
from tokprof.engine.parity import check_parity
from tokprof.engine.request import run_request
from tokprof.errors import ParameterError, UnsupportedError
from tokprof.fit import check_fit
from tokprof.measure.clock import NoClock
from tokprof.models.adapter import Prepared
from tokprof.recipe import Workload
from tokprof.workload import request_of

FAMILIES = ("llava", "llava-next", "llava-next-grouped", "onevision", "qwen2-vl", "qwen2.5-vl")
ONE, THREE = Workload(image_size=(64, 40)), Workload(image_count=3)  # type: ignore[call-arg]
TEXTS = {  # words before the first picture, between pictures, and behind the last one
    "both sides": (ONE, (5, 9)),
    "picture first": (ONE, (0, 9)),
    "nothing behind": (ONE, (8, 0)),
    "interleaved": (THREE, (3, 4, 1, 6)),
    "pictures first": (THREE, (0, 2, 2, 5)),
    "interleaved, nothing behind": (THREE, (3, 4, 2, 0)),
}
CASES = [(family, shape) for family in FAMILIES for shape in TEXTS]


def arranged(family: str, workload: Workload, texts: tuple[int, ...]) -> Prepared:
    """The request with so many made-up words around its pictures. Qwen's markers stay at each picture's sides."""
    adapter = tiny(family)
    prepared, request = adapter.prepare(workload), request_of(workload, tiny_entry(family))
    placeholder, config = adapter.placeholder(False), vars(adapter.config)
    opens, closes = (
        [config[name]] if tiny_entry(family).shape.tiling == "native" else []
        for name in ("vision_start_token_id", "vision_end_token_id")
    )
    word = iter(range(3, 3 + sum(texts)))
    ids = [next(word) for _ in range(texts[0])]
    for count, words in zip(request.layout.image_counts, texts[1:], strict=True):
        ids += [*opens, *count * [placeholder], *closes, *(next(word) for _ in range(words))]
    positions, next_position = adapter.positions(ids, request)
    row = torch.tensor(ids)
    visual, text = (row == placeholder).nonzero()[:, 0], (row != placeholder).nonzero()[:, 0]
    behind = int((text > visual[0]).sum())
    return replace(
        prepared,
        input_ids=row[None],
        visual_index=visual,
        text_index=text,
        positions=positions.unsqueeze(-2),
        next_position=next_position,
        scene=replace(prepared.scene, text=len(text), text_after=behind),
    )


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_dense_is_hugging_faces_forward(family: str, shape: str) -> None:
    adapter, prepared = tiny(family), arranged(family, *TEXTS[shape])
    behind = sum(TEXTS[shape][1][1:])
    assert Counter(prepared.input_ids[0].tolist())[adapter.placeholder(False)] == prepared.layout.count
    assert prepared.scene.text_after >= behind and (behind or prepared.scene.text_after <= prepared.layout.images * 2)
    shown = check_parity(adapter, policies.build("dense"), prepared, new_tokens=3)
    assert shown.relative_error <= 1e-5
    assert shown.greedy_equal


def test_the_order_of_text_and_pictures_matters_to_these_models() -> None:
    """Else the test above could not fail."""
    first, last = (
        run_request(tiny("llava"), policies.build("dense"), arranged("llava", ONE, texts), NoClock(), 1).logits
        for texts in ((0, 9), (9, 0))
    )
    assert float((first - last).abs().max()) > 1e-2


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_every_method_runs_as_planned_or_refuses(family: str, shape: str) -> None:
    """`checked`: plan = observed, edits sound, output finite."""
    adapter, (workload, texts) = tiny(family), TEXTS[shape]
    prepared, ran, refused = arranged(family, workload, texts), [], {}
    for name in (name for name in policies.names() if name != "dense"):
        policy = policies.build(name, keep=0.4)
        try:
            check_fit(policy, prepared.scene)
        except (UnsupportedError, ParameterError) as refusal:
            assert refusal.message and refusal.hint
            refused[name] = refusal.message
            continue
        scale = policy.image_scale(prepared.scene)
        smaller = workload.model_copy(update={"scale": scale})
        inputs = arranged(family, smaller, texts) if scale < 1 else prepared
        outcome = run_request(adapter, policy, inputs, NoClock(), 2, checked=True)
        assert outcome.tokens.shape == (1, 2), name
        assert policy.schedule(inputs.scene).covers(outcome.per_layer), name
        ran.append(name)
    assert {"random", "uniform", "v2drop", "visiondrop"} <= set(ran)
    for name in ("fastv", "pdrop", "hidivdrop", "sparsevlm", "twigvlm"):
        assert (name in ran) == bool(prepared.scene.text_after)
        assert prepared.scene.text_after or "behind the picture" in refused[name]


@pytest.mark.parametrize("size", [(26, 14), (10, 24), (20, 20)])
def test_a_picture_that_fits_into_a_single_tile_is_unpadded_too(size: tuple[int, int]) -> None:
    """OneVision alone has grids of one tile; every method runs on them, or refuses."""
    adapter, workload = tiny("onevision"), Workload(image_size=size)  # type: ignore[call-arg]
    prepared = adapter.prepare(workload)
    assert [block.tiles for block in prepared.layout.blocks] == [1, 1]
    assert check_parity(adapter, policies.build("dense"), prepared).greedy_equal
    for name in ("random", "uniform", "avgpool", "visionzip", "v2drop", "fastv", "tome"):
        policy = policies.build(name, keep=0.4)
        assert run_request(adapter, policy, prepared, NoClock(), 2, checked=True).tokens.shape == (1, 2)
