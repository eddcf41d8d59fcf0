"""Sampling on a machine whose time is ours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest

from tests.measure.fakes import FakeMachine, FakeNvml
from tokprof.errors import MachineError
from tokprof.measure.clock import Clock, FakeClock
from tokprof.measure.nvml import Gpu, MachineState
from tokprof.measure.sampling import PairSamples, sample_pair
from tokprof.measure.stats import drift, median, ratio_interval
from tokprof.recipe import Measurement

QUICK = Measurement(min_seconds=0)


def measure(machine: FakeMachine, measurement: Measurement = QUICK, policy_ms: float = 50.0) -> PairSamples:
    return sample_pair(
        machine.round("dense", 100.0),
        machine.round("policy", policy_ms),
        measurement,
        clock=machine.clock,
        now=machine.now,
        state=machine.state,
        pause=machine.pause,
    )


def speedup(pair: PairSamples) -> float:
    return median(pair.baseline.total_ms()) / median(pair.policy.total_ms())


def test_quiet_machine_gives_the_true_ratio_and_says_why_it_stopped() -> None:
    pair = measure(FakeMachine(noise=0.001), Measurement())
    assert speedup(pair) == pytest.approx(2.0, rel=2e-3)
    assert pair.baseline.rounds == pair.policy.rounds >= 20
    assert "noise 0.1" in pair.baseline.stop_reason
    assert pair.warnings == ()
    assert list(pair.policy.stages) == ["vision", "prefill", "decode"]


def test_enough_seconds_are_spent_even_when_rounds_are_short() -> None:
    machine = FakeMachine(noise=0.001)
    measure(machine, Measurement(min_seconds=30))
    assert machine.now() > 30


def test_noise_that_is_known_well_is_enough() -> None:
    pair = measure(FakeMachine(noise=0.05))
    assert "steady" in pair.baseline.stop_reason
    assert pair.baseline.rounds < 2000


def test_fixed_rounds() -> None:
    pair = measure(FakeMachine(), Measurement(rounds=7))
    assert pair.baseline.rounds == pair.policy.rounds == 7
    assert pair.baseline.stop_reason == "7 rounds, as asked"


def test_time_out_ends_it_with_its_reason() -> None:
    pair = measure(FakeMachine(noise=0.3), Measurement(timeout=2.0, min_rounds=1000))
    assert pair.baseline.stop_reason.startswith("time-out of 2 s")
    assert 2 <= pair.baseline.rounds < 1000


def test_one_round_longer_than_the_time_out_still_gives_two_samples() -> None:
    pair = measure(FakeMachine(), Measurement(timeout=0.01))
    assert pair.baseline.rounds == 2


def test_cold_round_and_warm_up_are_kept_apart() -> None:
    cold = {"left": 2}

    def speed(now: float) -> float:
        cold["left"] -= 1
        return 10.0 if cold["left"] >= 0 else 1.0

    pair = measure(FakeMachine(noise=0.0, speed=speed), Measurement(rounds=3))
    assert sum(pair.baseline.first_run_ms.values()) == pytest.approx(1000)
    assert sum(pair.policy.first_run_ms.values()) == pytest.approx(500)
    assert pair.baseline.warmup_rounds == 3
    assert max(pair.baseline.total_ms()) == pytest.approx(100)


def test_slow_rounds_warm_up_for_a_second_only() -> None:
    machine = FakeMachine()
    pair = sample_pair(
        machine.round("dense", 5000.0),
        machine.round("policy", 2000.0),
        Measurement(rounds=2, warmup_rounds=50),
        clock=machine.clock,
        now=machine.now,
    )
    assert pair.baseline.warmup_rounds == 1


def test_arms_alternate_mirrored_and_by_seed() -> None:
    orders = set()
    for seed in range(4):
        machine = FakeMachine()
        measure(machine, Measurement(rounds=8, seed=seed))
        measured = machine.log[2 + 2 * 3 : -5]
        assert len(measured) == 16
        for block in (measured[place : place + 4] for place in range(0, 16, 4)):
            assert block == block[::-1] and len(set(block)) == 2
        orders.add(tuple(measured))
        assert machine.log[-5:] == ["dense"] * 5
    assert len(orders) > 1


def test_same_seed_same_result() -> None:
    assert measure(FakeMachine(seed=3)) == measure(FakeMachine(seed=3))


def test_slowly_warming_device_does_not_bias_the_ratio_but_is_reported() -> None:
    pair = measure(FakeMachine(noise=0.002, speed=lambda now: 1 + 0.02 * now), Measurement(rounds=40))
    assert speedup(pair) == pytest.approx(2.0, rel=5e-3)
    assert drift(pair.baseline.total_ms(), pair.baseline_again_ms).verdict == "ambiguous"
    assert any("slower at the end (ambiguous)" in warning for warning in pair.warnings)


def test_bimodal_clocks_cancel_between_the_arms() -> None:
    machine = FakeMachine(noise=0.002, speed=lambda now: 1.3 if int(now * 2) % 3 == 0 else 1.0)
    pair = measure(machine, Measurement(rounds=60))
    interval = ratio_interval(pair.baseline.total_ms(), pair.policy.total_ms(), 0)
    assert interval.low <= 2.0 <= interval.high


def test_rounds_at_low_clocks_are_set_aside_with_a_pause() -> None:
    machine = FakeMachine()
    calls = {"count": 0}

    def mhz() -> float:
        calls["count"] += 1
        return 900.0 if calls["count"] % 10 == 0 else 1980.0

    machine.mhz = mhz
    pair = measure(machine, Measurement(rounds=20))
    assert pair.baseline.rounds == 20
    assert pair.baseline.set_aside == pair.policy.set_aside == 4
    assert machine.log.count("pause") == 4
    assert min(pair.rounds_state["sm_clock_mhz"]) == 1980.0 and len(pair.rounds_state["sm_clock_mhz"]) == 40
    assert any(warning.startswith("4 of 24 rounds ran below 75%") for warning in pair.warnings)


def test_a_device_always_at_low_clocks_is_measured_as_it_is_and_said_to_be_slow() -> None:
    machine = FakeMachine()
    machine.mhz = lambda: 500.0
    pair = measure(machine, Measurement(rounds=12))
    assert pair.baseline.rounds == 12 and pair.baseline.set_aside == 10
    assert len(pair.baseline_again_ms) == 5
    assert any("times of a slowed device" in warning for warning in pair.warnings)
    assert machine.now() < 60


def test_a_device_that_slows_for_good_keeps_what_was_measured() -> None:
    machine = FakeMachine()
    machine.mhz = lambda: 500.0 if machine.log.count("policy") > 12 else 1980.0
    pair = measure(machine, Measurement(rounds=30))
    assert pair.baseline.rounds == 8
    assert pair.baseline.stop_reason.startswith("gave up after 8 rounds")


def test_outliers_stay_and_are_listed() -> None:
    machine = FakeMachine(noise=0.001)
    machine.speed = lambda now: 5.0 if machine.log.count("policy") == 10 and machine.log[-1] == "policy" else 1.0
    pair = measure(machine, Measurement(rounds=20))
    assert max(pair.policy.total_ms()) > 200
    assert any("1 of 20 policy rounds are outliers" in warning for warning in pair.warnings)


def broken_clock(values: Callable[[int], float]) -> Clock:
    """A clock whose n-th reading is wrong."""
    count = {"calls": 0}

    def now() -> float:
        count["calls"] += 1
        return values(count["calls"])

    return FakeClock(now)


def test_a_clock_that_jumps_back_costs_rounds_not_truth() -> None:
    clock = broken_clock(lambda call: 10.0 * call - (1e6 if call > 150 else 0))
    machine = FakeMachine()
    pair = sample_pair(
        machine.round("dense", 1.0),
        machine.round("policy", 1.0),
        Measurement(rounds=30),
        clock=clock,
        now=machine.now,
    )
    assert pair.baseline.set_aside >= 1
    assert all(value == pytest.approx(60.0) for value in pair.baseline.total_ms())
    assert any("does the clock jump" in warning for warning in pair.warnings)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_a_clock_that_says_nothing_is_an_error(value: float) -> None:
    machine = FakeMachine()
    with pytest.raises(MachineError, match="no usable time"):
        sample_pair(
            machine.round("dense", 1.0),
            machine.round("policy", 1.0),
            QUICK,
            clock=broken_clock(lambda call: value),
            now=machine.now,
        )


@pytest.mark.parametrize("now", [lambda: math.nan, lambda: 5.0])
def test_a_time_that_stands_still_ends_at_the_most_rounds(
    now: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokprof.measure.stopping.MOST_ROUNDS", 50)
    machine = FakeMachine()
    pair = sample_pair(
        machine.round("dense", 1.0), machine.round("policy", 1.0), Measurement(), clock=machine.clock, now=now
    )
    assert pair.baseline.stop_reason == "50 rounds, the most there may be"


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_time_that_is_set_back_or_forward_ends_with_a_reason(jump: float) -> None:
    """Of the watch that the stop rule reads; the rounds have a clock of their own."""
    machine = FakeMachine()
    pair = sample_pair(
        machine.round("dense", 100.0),
        machine.round("policy", 50.0),
        Measurement(),
        clock=machine.clock,
        now=lambda: machine.now() + (jump if machine.now() > 2 else 0),
    )
    assert pair.baseline.stop_reason.startswith("time-out") == (jump > 0) and pair.baseline.rounds >= 2
    assert speedup(pair) == pytest.approx(2.0, rel=0.02)


def test_a_clock_that_jumps_forward_is_one_outlier() -> None:
    machine = FakeMachine(noise=0.001)
    machine.clock = FakeClock(lambda: machine.now_ms + (1e7 if machine.now_ms > 2020 else 0))
    pair = measure(machine, Measurement(rounds=30))
    assert speedup(pair) == pytest.approx(2.0, rel=0.01)
    assert any("outliers" in warning for warning in pair.warnings)


@pytest.mark.parametrize("dies", [1, 3, 50, 51, 52, 53])
def test_a_driver_that_fails_while_rounds_run_costs_its_figures_not_the_rounds(dies: int) -> None:
    machine = FakeMachine()
    gpu = Gpu(FakeNvml(machine, dies=dies, mhz=1980), None)
    machine.state = gpu.state  # type: ignore[method-assign]
    pair = measure(machine, Measurement(rounds=20))
    assert pair.baseline.rounds == 20 and pair.baseline.set_aside == 0
    assert "temperature_c" not in pair.rounds_state, "known for some rounds only"


def test_a_device_that_vanishes_is_not_swallowed() -> None:
    machine = FakeMachine()

    def run(clock: Clock) -> None:
        if machine.log.count("dense") > 6:
            raise MachineError("the device went away", "")
        machine.round("policy", 50.0)(clock)

    with pytest.raises(MachineError, match="went away"):
        sample_pair(machine.round("dense", 100.0), run, QUICK, clock=machine.clock, now=machine.now)


def test_states_without_figures_leave_no_series() -> None:
    machine = FakeMachine()
    machine.state = lambda: MachineState()  # type: ignore[method-assign]
    assert measure(machine, Measurement(rounds=5)).rounds_state == {}


def test_throttling_is_kept_per_round() -> None:
    machine = FakeMachine()
    plain = machine.state
    machine.state = lambda: dataclasses.replace(plain(), throttle=("power cap",))  # type: ignore[method-assign]
    assert set(measure(machine, Measurement(rounds=5)).rounds_state["throttled"]) == {1.0}


class SlowHost(FakeClock):
    """A device that is done as soon as the host has queued its work."""

    runs_behind = True


def test_launch_bound_stages_are_reported_for_a_device_that_runs_behind() -> None:
    machine = FakeMachine()
    machine.clock = SlowHost(lambda: machine.now_ms)
    bound = [warning for warning in measure(machine).warnings if "launch-bound" in warning]
    assert [warning.partition(":")[0] for warning in bound] == ["dense", "the policy"]
    assert not [warning for warning in measure(FakeMachine()).warnings if "launch-bound" in warning]


def test_ten_thousand_rounds() -> None:
    machine = FakeMachine(noise=0.01)
    pair = measure(machine, Measurement(rounds=10_000, timeout=1e9))
    assert pair.baseline.rounds == 10_000
    interval = ratio_interval(pair.baseline.total_ms(), pair.policy.total_ms(), 0)
    assert interval.low <= 2.0 <= interval.high and interval.half_width < 0.001
