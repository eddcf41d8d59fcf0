"""The passes beside the timed one: memory, energy, launches and synchronisations."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.measure.fakes import FakeMachine, FakeNvml
from tokprof.measure.activity import activity_pass, launches_per_stage, waits
from tokprof.measure.clock import Clock
from tokprof.measure.energy import measure_energy
from tokprof.measure.memory import PeakClock, memory_pass
from tokprof.measure.nvml import Gpu


def test_every_way_to_wait_for_the_device_is_counted_where_it_happens() -> None:
    values = torch.ones(8, 8)

    def run(clock: Clock) -> None:
        clock.enter("vision")
        (values @ values).view(-1).sum()
        clock.enter("select")
        values.sum().item()
        bool(values[0, 0] > 0)
        int(values[0, 0])
        values[values > 0]
        values.nonzero()
        values[0].tolist()
        values.masked_select(values > 0)
        clock.enter("prefill")
        values.topk(2).indices.sort()

    with torch.inference_mode():
        activity = activity_pass(run, "cpu")
    assert activity.host_syncs == {"vision": 0, "select": 7, "prefill": 0}
    assert activity.kernel_launches["vision"] == 2, "a view computes nothing"
    assert activity.kernel_launches["prefill"] == 2
    with torch.inference_mode():
        assert activity_pass(run, "cpu") == activity, "exact, so it repeats"


def test_stages_that_alternate_are_summed() -> None:
    value = torch.ones(2)

    def run(clock: Clock) -> None:
        for stage in ("prefill", "select", "prefill", "select"):
            clock.enter(stage)
            value.add(1)

    assert activity_pass(run, "cpu").kernel_launches == {"prefill": 2, "select": 2}


def test_launches_belong_to_the_range_they_start_in() -> None:
    events = [
        ("tokprof:prefill", 0.0, 10.0),
        ("tokprof:select", 10.0, 20.0),
        ("cudaLaunchKernel", 1.0, 2.0),
        ("cudaLaunchKernelExC", 9.9, 11.0),
        ("cudaMemcpyAsync", 10.0, 11.0),
        ("cudaDeviceSynchronize", 12.0, 13.0),
        ("aten::mm", 1.0, 3.0),
        ("cudaLaunchKernel", 25.0, 26.0),
    ]
    assert launches_per_stage(events, "tokprof:") == {"prefill": 2, "select": 1}


def test_each_stage_has_its_own_peak() -> None:
    level = {"now": 0, "peak": 0}

    def use(amount: int) -> None:
        level["now"] += amount
        level["peak"] = max(level["peak"], level["now"])

    def restart() -> None:
        level["peak"] = level["now"]

    clock = PeakClock(lambda: level["peak"], restart)
    use(1000)
    use(-1000)
    clock.enter("vision")
    use(5)
    use(-5)
    clock.enter("prefill")
    use(3)
    clock.enter("vision")
    use(1)
    clock.finish()
    assert clock.peaks == {"vision": 5, "prefill": 3}


def test_resident_set_of_a_stage_on_a_cpu() -> None:
    def run(clock: Clock) -> None:
        clock.enter("vision")
        clock.enter("prefill")
        torch.ones(16 << 20)
        clock.enter("decode")

    memory = memory_pass(run, "cpu", weights_bytes=7, kv_bytes=8, kv_planned_bytes=8)
    assert memory.source == "rss"
    assert memory.stage_peak_bytes["prefill"] - memory.stage_peak_bytes["vision"] > 48 << 20
    assert memory.peak_allocated_bytes == max(memory.stage_peak_bytes.values())
    assert memory.peak_reserved_bytes is None and memory.nvml_used_bytes is None


def test_energy_over_a_window_of_five_seconds() -> None:
    machine = FakeMachine(noise=0.0)
    energy = measure_energy(
        machine.round("policy", 100.0),
        machine.clock,
        Gpu(FakeNvml(machine), None),
        tokens=20,
        now=machine.now,
        pause=machine.pause,
    )
    assert energy is not None
    assert energy.window_s == pytest.approx(5.0, abs=0.11)
    assert energy.joules == pytest.approx(300 * energy.window_s)
    assert energy.tokens == 20 * energy.requests
    assert energy.idle_watts == 75.0


@pytest.mark.parametrize("trouble", [{"watts": 0.0}, {"fails": ("nvmlDeviceGetTotalEnergyConsumption",)}, {"dies": 13}])
def test_energy_is_not_supported_rather_than_zero(trouble: dict[str, Any]) -> None:
    machine = FakeMachine()
    gpu = Gpu(FakeNvml(machine, **trouble), None)
    assert (
        measure_energy(
            machine.round("policy", 100.0), machine.clock, gpu, tokens=1, now=machine.now, pause=machine.pause
        )
        is None
    )
    assert measure_energy(machine.round("policy", 1.0), machine.clock, None, tokens=1) is None


def test_what_the_driver_says() -> None:
    gpu = Gpu(FakeNvml(FakeMachine()), None)
    state = gpu.state()
    assert (state.sm_clock_mhz, state.default_clock_mhz, state.power_w, state.temperature_c) == (1200, 1600, 75, 40)
    assert state.throttle == ("power cap",)
    assert not state.slow, "exactly 75 % is fast enough"
    assert gpu.other_processes(ours_is_running=True) == 1
    assert gpu.other_processes(ours_is_running=False) == 2
    assert gpu.driver() == "570.1" and gpu.memory_used_bytes() == 123


@pytest.mark.parametrize("dies", range(6))
def test_a_driver_that_fails_half_way_leaves_gaps(dies: int) -> None:
    state = Gpu(FakeNvml(FakeMachine(), dies=dies), None).state()
    assert (state.temperature_c is None) == (dies < 4)
    assert not state.slow or state.sm_clock_mhz is not None


@pytest.mark.parametrize(
    "gone",
    [
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
    ],
)
def test_older_and_newer_drivers_call_the_same_thing_by_another_name(gone: str) -> None:
    state = Gpu(FakeNvml(FakeMachine(), fails=(gone,)), None).state()
    assert state.temperature_c == 40 and state.throttle == ("power cap",)


def test_an_older_driver_without_application_clocks_is_judged_by_its_highest() -> None:
    state = Gpu(FakeNvml(FakeMachine(), fails=("nvmlDeviceGetDefaultApplicationsClock",)), None).state()
    assert state.default_clock_mhz == 1980
    assert state.slow


def test_beside_a_gpu_only_its_own_tensors_are_waited_for() -> None:
    host, device = torch.zeros(1), torch.zeros(1, device="meta")
    assert waits(host, on_gpu=False) and waits(device, on_gpu=True) and not waits(host, on_gpu=True)
