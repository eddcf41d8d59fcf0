"""What every policy owes, found by discovery: on every family it runs as planned, or says why not."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from tests.models.tiny import TINY, tiny, tiny_entry, workloads_for
from tokprof import policies
from tokprof.engine.request import Outcome, run_request
from tokprof.errors import ParameterError, UnsupportedError
from tokprof.fit import check_fit
from tokprof.measure.clock import NoClock
from tokprof.models.adapter import Adapter, Prepared
from tokprof.policies.base import Policy
from tokprof.recipe import Workload

NAMES = [name for name in policies.names() if name != "dense"]
NEW_TOKENS = 3


@cache
def adapter_of(family: str) -> Adapter:
    return tiny(family)


@cache
def inputs(family: str, batch: int = 1) -> Prepared:
    return adapter_of(family).prepare(Workload(batch=batch))  # type: ignore[call-arg]


@cache
def dense(family: str, batch: int = 1) -> Outcome:
    return run(family, policies.build("dense"), batch)


def run(family: str, policy: Policy, batch: int = 1) -> Outcome:
    prepared = inputs(family, batch)
    scale = policy.image_scale(prepared.scene)
    if scale < 1 and not policy.identity:
        prepared = adapter_of(family).prepare(Workload(batch=batch, scale=scale))  # type: ignore[call-arg]
    return run_request(adapter_of(family), policy, prepared, NoClock(), NEW_TOKENS, checked=True)


def fitting(name: str, family: str, **parameters: Any) -> Policy:
    """The policy, or a skip with the reason that a user would read."""
    policy = policies.build(name, **parameters)
    try:
        check_fit(policy, inputs(family).scene)
    except (UnsupportedError, ParameterError) as refusal:
        assert refusal.message and refusal.hint
        pytest.skip(f"refused: {refusal.message}")
    return policy


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("name", NAMES)
def test_runs_as_planned_or_refuses(name: str, family: str) -> None:
    outcome = run(family, fitting(name, family, keep=0.4))  # `checked`: plan = observed, edits sound, output finite
    assert outcome.tokens.shape == (1, NEW_TOKENS)


OTHERS = [(family, "several") for family in TINY]
OTHERS += [(family, "video-batch") for family in TINY if tiny_entry(family).shape.videos]


@pytest.mark.parametrize(("family", "request_name"), OTHERS)
def test_several_pictures_and_videos_run_as_planned_too(family: str, request_name: str) -> None:
    """Every method that fits; `checked` as above. One test per request, since preparing it is most of the work."""
    adapter, workload = adapter_of(family), workloads_for(family)[request_name]
    prepared, ran = adapter.prepare(workload), []
    for name in NAMES:
        policy, inputs_of_policy = policies.build(name, keep=0.4), prepared
        try:
            check_fit(policy, prepared.scene)
        except (UnsupportedError, ParameterError) as refusal:
            assert refusal.message and refusal.hint
            continue
        scale = policy.image_scale(prepared.scene)
        if scale < 1:
            inputs_of_policy = adapter.prepare(workload.model_copy(update={"scale": scale}))
        outcome = run_request(adapter, policy, inputs_of_policy, NoClock(), NEW_TOKENS, checked=True)
        assert outcome.tokens.shape == (workload.batch, NEW_TOKENS), name
        ran.append(name)
    assert len(ran) > len(NAMES) / 2


@pytest.mark.parametrize("name", NAMES)
def test_keep_one_is_dense(name: str) -> None:
    outcome = run("llava-next", fitting(name, "llava-next", keep=1.0))
    assert torch.equal(outcome.logits, dense("llava-next").logits)
    assert outcome.per_layer == dense("llava-next").per_layer


@pytest.mark.parametrize("name", NAMES)
def test_twice_gives_the_same(name: str) -> None:
    policy = fitting(name, "llava-next", keep=0.4)
    first, second = run("llava-next", policy), run("llava-next", policy)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.tokens, second.tokens)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    """The first sample of a batch of two gets what it would get alone."""
    policy = fitting(name, "llava-next", keep=0.4)
    if policy.data_decided:
        pytest.skip("acts on a batch only when all samples agree")
    alone, together = run("llava-next", policy), run("llava-next", policy, batch=2)
    assert together.per_layer == alone.per_layer
    torch.testing.assert_close(together.logits[:1], alone.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_fewer_tokens_are_planned_for_a_smaller_share(name: str) -> None:
    scene = inputs("llava-next").scene
    means = []
    for keep in (0.3, 0.6):
        policy = fitting(name, "llava-next", keep=keep)
        means.append(policy.schedule(scene).layer_mean)
    assert means[0] <= means[1] <= scene.layout.count
