"""The gate on real runs of the demo model: A/A checks, and checks of a policy that sleeps.

`python -m benchmarks.gate_real_runs [--checks 10] [--slowdown 0.05]`. Rounds are real; the slowdown is
a sleep in the selection, as long as that share of the request. Prints the answers, and the noise that the
machine had, without which they say nothing.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence

from tokprof.environment import machine_warnings, snapshot
from tokprof.gate.checking import against_file, calibrate
from tokprof.gate.times import threshold_of
from tokprof.measure.apart import Place
from tokprof.measure.clock import Clock
from tokprof.measure.sampling import sample_pair
from tokprof.measure.stats import median, relative_noise
from tokprof.profiler import Listener
from tokprof.recipe import Cell, Measurement, Method, Setting, Workload
from tokprof.record import RunRecord
from tokprof.resolve import ready
from tokprof.session import Session


class Subject:
    """FastV on the demo, loaded once; every record is measured anew."""

    def __init__(self, rounds: int | None) -> None:
        self.measurement = Measurement(rounds=rounds, parity=False, memory=False, activity=False)
        self.cell = Cell(
            model="demo",
            method=Method(name="fastv", parameters={"keep": 0.25}),
            workload=Workload(new_tokens=4),
            setting=Setting(),
            measurement=self.measurement,
        )
        found = ready(self.cell)
        session = Session(found, Listener())
        self.template = session.measure(found)
        bench = session._bench
        assert bench is not None
        self.bench, self.facts = bench, bench._checked(found.policy, bench.prepared)
        self.seed = 0

    def record(self, sleep_ms: float = 0.0) -> RunRecord:
        self.seed += 1

        def slow(clock: Clock) -> None:
            self.facts.round(clock)
            clock.enter("select")
            time.sleep(sleep_ms / 1e3)

        pair = sample_pair(
            self.bench.dense.round,
            slow if sleep_ms else self.facts.round,
            self.measurement.model_copy(update={"seed": self.seed}),
            clock=self.bench.clock,
        )
        old = self.template
        return old.model_copy(
            update={
                "baseline": old.baseline.model_copy(update={"samples": pair.baseline}),
                "policy": old.policy.model_copy(update={"samples": pair.policy}),
                "baseline_again_ms": pair.baseline_again_ms,
            }
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=10)
    parser.add_argument("--slowdown", type=float, default=0.05)
    parser.add_argument("--rounds", type=int)
    given = parser.parse_args()
    subject = Subject(given.rounds)

    def measured(cells: Sequence[Cell], place: Place | None) -> list[RunRecord]:
        return [subject.record()]

    calibration = calibrate([subject.cell], lambda said: None, measure=measured)
    (known,) = next(iter(calibration.values())).values()
    noise, request = [], median(subject.record().policy.samples.total_ms())
    for name, sleep_ms in (("A/A", 0.0), (f"select sleeps {given.slowdown:.0%}", given.slowdown * request)):
        answers = Counter[str]()
        for _ in range(given.checks):
            before = subject.record()
            noise.append(relative_noise(before.policy.samples.total_ms()))
            outcome = against_file(
                [before],
                [before.cell],
                2,
                calibration,
                lambda said: None,
                lambda cells, place, sleep=sleep_ms: [subject.record(sleep)],  # type: ignore[misc]
            )
            answers[outcome.answer] += 1
        shares = ", ".join(f"{answers[answer]} {answer}" for answer in ("pass", "ambiguous", "regressed"))
        print(f"{name}: {given.checks} checks: {shares}", flush=True)
    environment = snapshot("cpu")
    print(f"{environment.device.name}, {environment.cores} cores; request {request:.1f} ms, noise {median(noise):.1%},")
    print(f"A/A deviation {known['request']:.1%}, so threshold {threshold_of(known['request']):.1%}")
    for warning in machine_warnings(environment):
        print(f"warning: {warning}")


if __name__ == "__main__":
    main()
