"""When enough has been measured: always a verdict with its reason, never a wait without end."""

from __future__ import annotations

from collections.abc import Sequence

from tokprof.measure.stats import median, relative_noise, usable
from tokprof.recipe import Measurement

QUIET = 0.005  # relative noise that needs no more samples
STABLE = 0.05  # relative change of the noise estimate that more samples would hardly improve
MOST_ROUNDS = 10_000
CHECKS_COMPARED = 5  # noise estimates that have to agree


class StopRule:
    """At least so many rounds and so many seconds, and then little noise, or noise that is known well."""

    def __init__(self, measurement: Measurement) -> None:
        self._measurement = measurement
        self._noise: list[float] = []
        self._next_check = 0

    def reason(self, arms: Sequence[Sequence[float]], seconds: float, since_start: float) -> str | None:
        """Why to stop now, or None. `arms`: request times of each side; `seconds`: spent sampling."""
        rounds = min(len(arm) for arm in arms)
        wanted = self._measurement.rounds
        if wanted is not None:
            if rounds >= wanted:
                return f"{rounds} rounds, as asked"
        else:
            noise = self._checked_noise(arms, rounds)
            if rounds >= self._measurement.min_rounds and seconds >= self._measurement.min_seconds:
                if noise < QUIET:
                    return f"{rounds} rounds, {seconds:.1f} s, noise {100 * noise:.2f} %"
                if self._stable():
                    return f"{rounds} rounds, {seconds:.1f} s, noise steady at {100 * noise:.2f} %"
        if since_start >= self._measurement.timeout and rounds >= 2:
            return f"time-out of {self._measurement.timeout:g} s after {rounds} rounds"
        if rounds >= MOST_ROUNDS:
            return f"{rounds} rounds, the most there may be"
        return None

    def _checked_noise(self, arms: Sequence[Sequence[float]], rounds: int) -> float:
        """The noisier arm's, estimated anew whenever a tenth more rounds are there."""
        if rounds >= 4 and rounds >= self._next_check and all(usable(arm) for arm in arms):
            self._noise.append(max(relative_noise(arm) for arm in arms))
            self._next_check = rounds + max(1, rounds // 10)
        return self._noise[-1] if self._noise else float("inf")

    def _stable(self) -> bool:
        recent = self._noise[-CHECKS_COMPARED:]
        return len(recent) == CHECKS_COMPARED and max(recent) - min(recent) <= STABLE * median(recent)
