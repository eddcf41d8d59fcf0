"""What a GPU would trip over, found without one: half precision, and on the meta device every operator is looked at.

A tensor made on the host and used on the device raises on a GPU, or is copied while the host waits; so it waits for a
value that Python branches on. Meta tensors have no values, hence `item` and its like raise.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.models.tiny import tiny_entry, workloads_for
from tokprof import policies
from tokprof.engine.request import run_request
from tokprof.errors import ParameterError, UnsupportedError
from tokprof.fit import check_fit
from tokprof.measure.clock import NoClock
from tokprof.models import load
from tokprof.models.adapter import Adapter, Prepared
from tokprof.policies.base import Policy
from tokprof.recipe import Workload

REQUESTS = [  # a class token and tiles; patches that merge, in windows; a batch of pooled videos
    ("llava-next-grouped", "default"),
    ("qwen2.5-vl", "default"),
    ("onevision", "video-batch"),
]
FROM_PYTHON = {torch.tensor, torch.as_tensor, torch.Tensor.new_tensor}  # on a GPU: made on the host, then copied


class Crossings(TorchDispatchMode):
    """Operators with tensors on two devices, and tensors on the device that were made of Python's numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._made = Made(self.found)

    def __enter__(self) -> Any:
        self._made.__enter__()
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._made.__exit__(*raised)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if len({tensor.device for tensor in tensors}) > 1:
            self.found.append(str(func))
        return result


class Made(TorchFunctionMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in FROM_PYTHON and result.device.type != "cpu":
            self._found.append(func.__name__)
        return result


def fitting(prepared: Prepared) -> list[Policy]:
    """Every method that this prompt can have; an exit that the data decide is left out, for here are no data."""
    found = []
    for name in policies.names():
        fixed = {"exit_layer": "never"} if name == "todre" else {}
        policy = policies.build(name, **({} if name == "dense" else {"keep": 0.4}), **fixed)
        try:
            check_fit(policy, prepared.scene)
        except (UnsupportedError, ParameterError):
            continue
        if policy.image_scale(prepared.scene) == 1.0:
            found.append(policy)
    return found


@pytest.mark.parametrize(("family", "request_name"), REQUESTS)
def test_nothing_crosses_between_host_and_device(family: str, request_name: str) -> None:
    adapter: Adapter = load(tiny_entry(family), "random", device="meta", dtype=torch.bfloat16)
    held = [*adapter.model.parameters(), *adapter.model.buffers()]
    assert {tensor.device.type for tensor in held} == {"meta"}
    workload = {"default": Workload(), **workloads_for(family)}[request_name]  # type: ignore[call-arg]
    prepared = adapter.prepare(workload)
    prepared.candidates, prepared.newlines  # noqa: B018 (made once per prompt, on the host, and kept)
    tried = fitting(prepared)
    assert len(tried) > len(policies.names()) / 3
    for policy in tried:
        with Crossings() as crossings:
            outcome = run_request(adapter, policy, prepared, NoClock(), 2)
        assert not crossings.found, policy.name
        assert outcome.logits.dtype == torch.bfloat16, policy.name


@pytest.mark.parametrize("family", ["llava-next-grouped", "qwen2.5-vl", "onevision"])
def test_every_method_keeps_its_promises_in_half_precision(family: str) -> None:
    """With numbers: scores that tie in sixteen bits, indices that are still unique, an output that is finite."""
    adapter: Adapter = load(tiny_entry(family), "random", dtype=torch.bfloat16)
    prepared = adapter.prepare(Workload(batch=2))  # type: ignore[call-arg]
    for policy in [*fitting(prepared), policies.build("todre", keep=0.4)]:
        outcome = run_request(adapter, policy, prepared, NoClock(), 2, checked=True)
        assert outcome.logits.dtype == torch.bfloat16, policy.name


def test_a_crossing_would_be_seen() -> None:
    there = torch.zeros(3, device="meta")
    with Crossings() as crossings:
        there + torch.ones(3).to("meta")
        there.new_tensor([0.25, 0.75])
    assert len(crossings.found) == 2
    with pytest.raises(RuntimeError):
        there.sum().item()
    with pytest.raises((RuntimeError, NotImplementedError)):
        there[there > 0]
