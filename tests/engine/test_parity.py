"""Our loop is Hugging Face's forward and `generate`, for every family, at tiny size in fp32."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models.tiny import TINY, build_tiny, tiny, workloads_for
from tokprof import policies
from tokprof.engine.parity import check_parity
from tokprof.engine.request import run_request
from tokprof.errors import ParityError, WorkloadError
from tokprof.measure.clock import NoClock
from tokprof.models import load
from tokprof.recipe import Workload

CASES = [(family, request) for family in TINY for request in workloads_for(family)]


@pytest.mark.parametrize(("family", "request_name"), CASES)
def test_logits_and_greedy_tokens(family: str, request_name: str) -> None:
    adapter = tiny(family)
    prepared = adapter.prepare(workloads_for(family)[request_name])
    if adapter.foreign_to_forward(prepared):
        pytest.skip("Hugging Face's forward cannot pack this layout")
    shown = check_parity(adapter, policies.build("dense"), prepared, new_tokens=6)
    assert shown.relative_error <= 1e-5
    assert shown.greedy_equal


@pytest.mark.parametrize("family", ["llava-next-grouped", "qwen2-vl"])
def test_eager_attention_is_causal_too(family: str) -> None:
    from tests.models.tiny import tiny_entry

    eager, sdpa = (load(tiny_entry(family), "random", attention=kind) for kind in ("eager", "sdpa"))
    for theirs, ours in zip(sdpa.model.parameters(), eager.model.parameters(), strict=True):
        ours.data.copy_(theirs.data)
    workload = workloads_for(family)["picture"]
    results = [
        run_request(
            adapter,
            policies.build("fastv", keep=0.5),
            adapter.prepare(workload),
            NoClock(),
            4,
            attention=adapter.attention,
        )
        for adapter in (eager, sdpa)
    ]
    torch.testing.assert_close(results[0].logits, results[1].logits, rtol=1e-4, atol=1e-5)
    assert torch.equal(results[0].tokens, results[1].tokens)


def test_a_loop_that_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = tiny("llava-next")
    prepared = adapter.prepare(Workload())  # type: ignore[call-arg]
    original = adapter.decoder.logits

    def off(hidden: Any) -> Any:
        return original(hidden) * 1.001

    monkeypatch.setattr(adapter.decoder, "logits", off)
    with pytest.raises(ParityError, match=r"differ by"):
        check_parity(adapter, policies.build("dense"), prepared)


def test_features_that_are_no_numbers_are_said_to_be_so() -> None:
    """Not that the loops differ by nan, and not a choice among tokens that mean nothing."""
    adapter = build_tiny("llava")
    adapter.model.get_submodule("model.multi_modal_projector.linear_1").weight.data[0, 0] = float("nan")
    prepared = adapter.prepare(Workload())  # type: ignore[call-arg]
    with pytest.raises(WorkloadError, match="output is not finite"):
        check_parity(adapter, policies.build("dense"), prepared)
    for name in ("todre", "visionzip", "v2drop"):
        with pytest.raises(WorkloadError, match=f"{name}: the model's output is not finite"):
            run_request(adapter, policies.build(name, keep=0.4), prepared, NoClock(), 2, checked=True)


def test_a_window_over_every_layer_is_the_dense_model() -> None:
    adapter = tiny("llava-next")
    prepared = adapter.prepare(Workload())  # type: ignore[call-arg]
    window = policies.build("hidivdrop", keep=1.0, entry=0, exit="never")
    late = policies.build("hidivdrop", keep=1.0, entry=2, exit="never")
    dense, whole, without = (
        run_request(adapter, policy, prepared, NoClock(), 2, checked=True)
        for policy in (policies.build("dense"), window, late)
    )
    assert torch.equal(whole.logits, dense.logits) and whole.per_layer == dense.per_layer
    assert without.per_layer == (0, 0, *dense.per_layer[2:])
