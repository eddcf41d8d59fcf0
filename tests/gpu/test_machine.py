"""What measuring relies on and only a GPU can show: the driver's answers, the clock's quiet, energy."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokprof import policies
from tokprof.engine.request import run_request
from tokprof.environment import snapshot, state_reader
from tokprof.measure.activity import activity_pass
from tokprof.measure.ceilings import measure_ceilings
from tokprof.measure.clock import Clock, CudaClock
from tokprof.measure.energy import energy_pass
from tokprof.measure.sampling import Round, sample_pair
from tokprof.measure.stats import ratio_interval
from tokprof.models import load
from tokprof.recipe import Measurement, Workload

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(scope="module")
def dense() -> Round:
    adapter: Any = load("demo", device="cuda", dtype=torch.bfloat16)
    prepared = adapter.prepare(Workload())  # type: ignore[call-arg]

    def run(clock: Clock) -> None:
        run_request(adapter, policies.build("dense"), prepared, clock, 4)

    return run


def test_the_driver_tells_what_a_record_needs() -> None:
    device = snapshot("cuda", "bfloat16").device
    assert device.kind == "cuda" and device.driver and device.capability
    assert device.sm_clock_mhz and device.sm_clock_max_mhz and device.memory_bytes
    state = state_reader("cuda")()
    assert state is not None and state.sm_clock_mhz and state.default_clock_mhz


def test_equal_arms_are_equal(dense: Round) -> None:
    pair = sample_pair(dense, dense, Measurement(timeout=20), clock=CudaClock(), state=state_reader("cuda"))
    interval = ratio_interval(pair.baseline.total_ms(), pair.policy.total_ms())
    assert interval.low / 1.01 <= 1 <= interval.high * 1.01
    assert len(pair.rounds_state["sm_clock_mhz"]) == 2 * pair.baseline.rounds


def test_launches_are_counted_per_stage_and_repeat(dense: Round) -> None:
    first = activity_pass(dense, "cuda")
    assert first.kernel_launches["prefill"] > 0 and first.kernel_launches["vision"] > 0
    assert activity_pass(dense, "cuda") == first


def test_energy_is_counted_or_absent(dense: Round) -> None:
    energy = energy_pass(dense, "cuda", batch=1, new_tokens=4)
    assert energy is None or (energy.joules > 0 and energy.window_s >= 5)


def test_ceilings() -> None:
    found = measure_ceilings("cuda", "bfloat16")
    assert found.flops_per_s > 1e12 and found.bytes_per_s > 1e11
