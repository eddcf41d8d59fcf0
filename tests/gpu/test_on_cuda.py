"""What only a GPU can show: the same loop in half precision, its clock, its memory, its silence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokprof import policies
from tokprof.engine.parity import check_parity
from tokprof.engine.request import run_request
from tokprof.measure.activity import activity_pass
from tokprof.measure.clock import CudaClock, NoClock
from tokprof.measure.memory import memory_pass
from tokprof.models import load
from tokprof.recipe import Workload

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

WITHOUT_SYNCS = ("dense", "random", "fastv", "v2drop", "hidivdrop", "vtw", "visionzip", "pdrop", "fastervlm")


@pytest.fixture(scope="module")
def bench() -> tuple[Any, Any]:
    adapter = load("demo", device="cuda", dtype="bfloat16")
    return adapter, adapter.prepare(Workload())  # type: ignore[call-arg]


def test_parity_in_half_precision(bench: tuple[Any, Any]) -> None:
    adapter, prepared = bench
    assert check_parity(adapter, policies.build("dense"), prepared).relative_error < 5e-2


@pytest.mark.parametrize("name", WITHOUT_SYNCS)
def test_deciding_never_waits_for_the_device(bench: tuple[Any, Any], name: str) -> None:
    adapter, prepared = bench
    policy = policies.build(name, keep=0.25) if name not in ("dense", "vtw") else policies.build(name)
    activity = activity_pass(lambda clock: run_request(adapter, policy, prepared, clock, 4), "cuda")
    assert sum(activity.host_syncs.values()) == 0


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
        device="cuda",
        weights_bytes=1,
        kv_bytes=outcome.kv_bytes,
        kv_planned_bytes=outcome.kv_bytes,
    )
    assert memory.source == "cuda"
    assert memory.stage_peak_bytes["prefill"] > outcome.kv_bytes
