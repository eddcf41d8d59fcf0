"""Rounds of the dense model and of a policy, interleaved in one process until the stop rule is met.

The order: a cold round of each, kept apart; warm-up; then pairs in ABBA or BAAB order, drawn by seed;
the dense model again at the end, to see whether the machine moved meanwhile. Pure logic: the clock,
the time, the device's state and the pauses are handed in.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tokprof import units
from tokprof.errors import MachineError
from tokprof.measure.clock import Clock, StageTime
from tokprof.measure.launch_bound import launch_bound_warning
from tokprof.measure.nvml import LOW_CLOCK, MachineState
from tokprof.measure.stats import drift, outliers, usable
from tokprof.measure.stopping import StopRule
from tokprof.measure.turns import Alone
from tokprof.recipe import Measurement
from tokprof.record import REQUEST_STAGES, Samples, StageSamples

Round = Callable[[Clock], None]  # one whole request, marking its stages on the clock
Times = Mapping[str, StageTime]

WARMUP_SECONDS = 1.0
AGAIN_AT_LEAST = 5  # dense rounds at the end
PAUSE_SECONDS = 0.1  # after a round at low clocks, doubled as long as they last
LONGEST_PAUSE = 2.0
TOO_MANY_SET_ASIDE = 10  # pairs in a row: the device will not recover


@dataclass(frozen=True)
class PairSamples:
    baseline: Samples
    policy: Samples
    baseline_again_ms: tuple[float, ...]
    rounds_state: dict[str, tuple[float, ...]]
    warnings: tuple[str, ...]


@dataclass
class _Arm:
    run: Round
    first: dict[str, float] = field(default_factory=dict)
    warmup: int = 0
    kept: list[Times] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)


def sample_pair(
    baseline: Round,
    policy: Round,
    measurement: Measurement,
    *,
    clock: Clock,
    now: Callable[[], float] = time.monotonic,
    state: Callable[[], MachineState | None] | None = None,
    progress: Callable[[str, int], None] | None = None,
    pause: Callable[[float], None] = time.sleep,
    turns: Alone | None = None,
) -> PairSamples:
    """Measure both arms under the rules of docs/measuring.md; `turns`: with another process that does the same."""
    return _Sampling(baseline, policy, measurement, clock, now, state, progress, pause, turns or Alone()).measure()


class _Sampling:
    def __init__(
        self,
        baseline: Round,
        policy: Round,
        measurement: Measurement,
        clock: Clock,
        now: Callable[[], float],
        state: Callable[[], MachineState | None] | None,
        progress: Callable[[str, int], None] | None,
        pause: Callable[[float], None],
        turns: Alone,
    ) -> None:
        self.turns = turns
        self.baseline, self.policy = _Arm(baseline), _Arm(policy)
        self.measurement, self.clock, self.pause = measurement, clock, pause
        self.read_state = state or (lambda: None)
        self.progress = progress or (lambda phase, rounds: None)
        self.watch = _Watch(now)
        self.states: list[MachineState] = []
        self.slow = self.broken = self.in_a_row = 0
        self.always_slow = False

    def measure(self) -> PairSamples:
        with self.turns.together():
            self._warm_up()
            reason = self._sample()
            again = self._dense_again()
        baseline, policy = self._samples(self.baseline, reason), self._samples(self.policy, reason)
        bound = []
        if self.clock.runs_behind:
            bound = [launch_bound_warning("dense", baseline), launch_bound_warning("the policy", policy)]
        return PairSamples(
            baseline=baseline,
            policy=policy,
            baseline_again_ms=tuple(again),
            rounds_state=_per_round(self.states),
            warnings=(*self._warnings(again), *(warning for warning in bound if warning)),
        )

    def _warm_up(self) -> None:
        """The cold round apart, then `warmup_rounds` rounds, or fewer that take a second together."""
        self.turns.take()
        arms = (self.baseline, self.policy)
        for arm in arms:
            self.progress("first run", 0)
            arm.first = {stage: spent.elapsed_ms for stage, spent in self._round(arm).items()}
        began = self.watch.seconds()
        for done in range(self.measurement.warmup_rounds):
            if done and self.watch.seconds() - began >= WARMUP_SECONDS * len(arms):
                break
            self.progress("warm-up", done + 1)
            for arm in arms:
                self._round(arm)
                arm.warmup += 1
        self.turns.pass_on(enough=False)

    def _sample(self) -> str:
        rule, draw = StopRule(self.measurement), random.Random(self.measurement.seed)
        totals = (self.baseline.totals, self.policy.totals)
        reason, spent = None, 0.0
        while True:
            order = [self.baseline, self.policy]
            if draw.random() < 0.5:
                order.reverse()
            for pair in (order, order[::-1]):
                self.turns.take()
                began = self.watch.seconds()
                self._pair(pair)
                now = self.watch.seconds()
                spent += now - began
                reason = reason or rule.reason(totals, spent, now) or self._hopeless(now)
                if self.turns.pass_on(enough=bool(reason)) and reason:
                    return reason
                self.progress("measuring", len(totals[0]))

    def _pair(self, order: Sequence[_Arm]) -> None:
        """Both sides or neither: a pair is one sample of the comparison."""
        times, states = [], []
        for arm in order:
            times.append(self._round(arm))
            states.append(self.read_state() or MachineState())
        if any(state.slow for state in states) and not self.always_slow:
            self.slow += 1
            self._back_off()
        elif not all(_sane(measured) for measured in times):
            self.broken += 1
            self.in_a_row += 1
        else:
            self.in_a_row = 0
            self.states += states
            for arm, measured in zip(order, times, strict=True):
                arm.kept.append(measured)
                arm.totals.append(_request_ms(measured))

    def _back_off(self) -> None:
        self.pause(min(PAUSE_SECONDS * 2**self.in_a_row, LONGEST_PAUSE))
        self.in_a_row += 1

    def _hopeless(self, seconds: float) -> str | None:
        """Where pairs are set aside one after the other: stop with what there is, or say why there is nothing."""
        if self.in_a_row < (TOO_MANY_SET_ASIDE if seconds < self.measurement.timeout else 1):
            return None
        kept = len(self.baseline.totals)
        if kept >= 2:
            return f"gave up after {kept} rounds: {self.slow + self.broken} others could not be used"
        if self.slow > self.broken:  # it does not recover: measure it as it is, and say so
            self.always_slow, self.in_a_row = True, 0
            return None
        raise MachineError(
            f"the clock gave no usable time in {self.broken} rounds (zero, negative or not finite)",
            "check that the device is still there (tokprof device) and that the system clock is not being set",
        )

    def _dense_again(self) -> list[float]:
        count = max(AGAIN_AT_LEAST, len(self.baseline.totals) // 4)
        if self.measurement.rounds is not None:
            count = min(count, self.measurement.rounds)
        self.turns.take()
        began, again = self.watch.seconds(), []
        for done in range(count):
            self.progress("dense again", done + 1)
            measured = self._round(self.baseline)
            if _sane(measured) and (self.always_slow or not (self.read_state() or MachineState()).slow):
                again.append(_request_ms(measured))
            if len(again) >= 2 and self.watch.seconds() - began >= self.measurement.timeout / 4:
                break
        return again

    def _round(self, arm: _Arm) -> Times:
        arm.run(self.clock)
        return self.clock.read()

    def _samples(self, arm: _Arm, reason: str) -> Samples:
        names = dict.fromkeys(stage for measured in arm.kept for stage in measured)
        nothing = StageTime(0.0, 0.0)
        return Samples(
            stages={
                stage: StageSamples(
                    elapsed_ms=tuple(measured.get(stage, nothing).elapsed_ms for measured in arm.kept),
                    submit_ms=tuple(measured.get(stage, nothing).submit_ms for measured in arm.kept),
                )
                for stage in names
            },
            first_run_ms={stage: ms for stage, ms in arm.first.items() if math.isfinite(ms)},
            warmup_rounds=arm.warmup,
            set_aside=self.slow + self.broken,
            stop_reason=reason,
        )

    def _warnings(self, again: Sequence[float]) -> list[str]:
        found = []
        kept = len(self.baseline.totals)
        if self.always_slow:
            found.append(
                f"the device stayed below {LOW_CLOCK:.0%} of its clock, so these are the times of a slowed device: "
                "let it cool, end other work on it, or lift its power limit (nvidia-smi -q -d PERFORMANCE)"
            )
        elif self.slow:
            found.append(
                f"{self.slow} of {kept + self.slow + self.broken} rounds ran below {LOW_CLOCK:.0%} of the device's "
                "clock and were set aside: let it cool or end other work on it"
            )
        if self.broken:
            found.append(f"{self.broken} rounds had an impossible time and were set aside: does the clock jump?")
        for name, arm in (("dense", self.baseline), ("policy", self.policy)):
            far = outliers(arm.totals) if usable(arm.totals) else ()
            if far:
                found.append(f"{len(far)} of {kept} {name} rounds are outliers; they count: rounds {_listed(far)}")
        moved = drift(self.baseline.totals, again, self.measurement.seed)
        if moved.verdict != "steady":
            change = "slower" if moved.ratio > 1 else "faster"
            found.append(
                f"the dense model was {units.share(abs(moved.ratio - 1))} {change} at the end "
                f"({moved.verdict}): keep the machine quiet, or warm it up for longer"
            )
        return found


class _Watch:
    """Seconds since the start; a clock that is set back or stands still does not run backwards."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._last, self._sum = now, now(), 0.0

    def seconds(self) -> float:
        current = self._now()
        if math.isfinite(current):
            self._sum += max(0.0, current - self._last)
            self._last = current
        return self._sum


def _request_ms(times: Times) -> float:
    return sum(times[stage].elapsed_ms for stage in REQUEST_STAGES if stage in times)


def _sane(times: Times) -> bool:
    parts = [value for spent in times.values() for value in (spent.elapsed_ms, spent.submit_ms)]
    return all(math.isfinite(part) and part >= 0 for part in parts) and _request_ms(times) > 0


def _per_round(states: Sequence[MachineState]) -> dict[str, tuple[float, ...]]:
    """NVML's figures in the order of the rounds, both arms; a figure missing once is left out."""
    series = {}
    for name in ("sm_clock_mhz", "power_w", "temperature_c"):
        values = [getattr(state, name) for state in states]
        if values and all(value is not None for value in values):
            series[name] = tuple(float(value) for value in values)
    if any(state.throttle for state in states):
        series["throttled"] = tuple(float(bool(state.throttle)) for state in states)
    return series


def _listed(places: Sequence[int], most: int = 5) -> str:
    text = ", ".join(str(place + 1) for place in places[:most])
    return text + (" …" if len(places) > most else "")
