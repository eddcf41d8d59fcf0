"""What only a GPU can show: the same loop in half precision, its clock, its memory, its silence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch

from tests.models.tiny import tiny_entry
from tokprof import policies
from tokprof.engine.parity import check_parity
from tokprof.engine.request import run_request
from tokprof.errors import ParameterError, UnsupportedError
from tokprof.fit import check_fit
from tokprof.measure.activity import activity_pass
from tokprof.measure.clock import CudaClock, NoClock
from tokprof.measure.memory import memory_pass
from tokprof.models import load
from tokprof.policies.base import Policy
from tokprof.recipe import Workload

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

DEVICE = "cuda"
FAMILIES = ("demo", "llava-next-grouped", "onevision", "qwen2.5-vl")


@cache
def bench_of(family: str, attention: str = "sdpa") -> tuple[Any, Any]:
    entry: Any = family if family == "demo" else tiny_entry(family)
    weights = "auto" if family == "demo" else "random"
    adapter = load(entry, weights, device=DEVICE, dtype=torch.bfloat16, attention=attention)
    return adapter, adapter.prepare(Workload())  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def bench() -> tuple[Any, Any]:
    return bench_of("demo")


def fitting(prepared: Any) -> list[Policy]:
    """Every method that this prompt can have and that shares the unpruned model's inputs."""
    found = []
    for name in policies.names():
        policy = policies.build(name, **({} if name == "dense" else {"keep": 0.4}))
        try:
            check_fit(policy, prepared.scene)
        except (UnsupportedError, ParameterError):
            continue
        if policy.image_scale(prepared.scene) == 1.0:
            found.append(policy)
    return found


@contextmanager
def raising_where_the_host_waits() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("family", FAMILIES)
def test_parity_in_half_precision(family: str) -> None:
    adapter, prepared = bench_of(family)
    assert check_parity(adapter, policies.build("dense"), prepared).relative_error < 5e-2


KERNELS = [(family, attention) for family in FAMILIES for attention in ("sdpa", "flash", "eager")]
KERNELS.remove(("llava-next-grouped", "flash"))  # heads of 12 channels: no fused kernel takes them with a mask


@pytest.mark.parametrize(("family", "attention"), KERNELS)
def test_every_method_keeps_its_promises(family: str, attention: str) -> None:
    """Weights drawn on the device or read onto it, plan = observed, sound edits, a finite output."""
    adapter, prepared = bench_of(family, attention)
    assert {tensor.device.type for tensor in (*adapter.model.parameters(), *adapter.model.buffers())} == {DEVICE}
    for policy in fitting(prepared):
        try:
            outcome = run_request(adapter, policy, prepared, NoClock(), 3, attention=adapter.attention, checked=True)
        except Exception as error:
            raise AssertionError(f"{policy.name}: {error}") from error
        assert outcome.tokens.device.type == DEVICE, policy.name


@pytest.mark.parametrize("family", FAMILIES)
def test_deciding_never_waits_for_the_device(family: str) -> None:
    """By the driver's word, and by the count that goes into the records."""
    adapter, prepared = bench_of(family)
    for policy in fitting(prepared):
        if policy.data_decided:
            continue
        run_request(adapter, policy, prepared, NoClock(), 4)  # what is made once per prompt is made
        try:
            with raising_where_the_host_waits():
                run_request(adapter, policy, prepared, NoClock(), 4)
        except RuntimeError as error:
            raise AssertionError(f"{policy.name}: {error}") from error


def test_the_count_of_waits_is_the_drivers(bench: tuple[Any, Any]) -> None:
    adapter, prepared = bench
    silent, asking = policies.build("fastv", keep=0.25), policies.build("todre", keep=0.25)
    waits = []
    for policy in (silent, asking):
        found = activity_pass(lambda clock, policy=policy: run_request(adapter, policy, prepared, clock, 4), DEVICE)
        waits.append(sum(found.host_syncs.values()))
    assert waits[0] == 0 < waits[1]
    with pytest.raises(RuntimeError, match="synchroniz"), raising_where_the_host_waits():
        run_request(adapter, asking, prepared, NoClock(), 4)


def test_stages_fill_the_round(bench: tuple[Any, Any]) -> None:
    adapter, prepared = bench
    clock = CudaClock()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    run_request(adapter, policies.build("fastv", keep=0.25), prepared, clock, 4)
    times = clock.read()
    end.record()
    torch.cuda.synchronize()
    assert sum(stage.elapsed_ms for stage in times.values()) <= begin.elapsed_time(end)
    assert {"vision", "project", "select", "prefill", "first_decode", "decode"} == set(times)


def test_peaks_are_seen_per_stage(bench: tuple[Any, Any]) -> None:
    adapter, prepared = bench
    dense = policies.build("dense")
    outcome = run_request(adapter, dense, prepared, NoClock(), 4)
    memory = memory_pass(
        lambda clock: run_request(adapter, dense, prepared, clock, 4),
        device=DEVICE,
        weights_bytes=1,
        kv_bytes=outcome.kv_bytes,
        kv_planned_bytes=outcome.kv_bytes,
    )
    assert memory.source == "cuda"
    assert memory.stage_peak_bytes["prefill"] > outcome.kv_bytes
