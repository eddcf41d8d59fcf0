"""How often the gate cries wolf, and how often it sleeps: thousands of checks on simulated machines.

Each check is the gate's real code from the first round to the answer (sampling, statistics, verdict,
second look); only the machine is simulated: log-normal noise, spikes, a slow swing of the clock, and a
shift of every process as a whole. `python -m benchmarks.gate_simulation [--checks 200]` prints the
table of docs/measuring.md.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.measure.fakes import FakeMachine
from tests.records import make_record
from tokprof.gate.calibration import Calibration, calibrated
from tokprof.gate.checking import against_file
from tokprof.gate.outcome import Outcome
from tokprof.measure.apart import Place
from tokprof.measure.sampling import sample_pair
from tokprof.recipe import Cell, Measurement
from tokprof.record import RunRecord

DENSE_MS, POLICY_MS = 100.0, 50.0
TEMPLATE = make_record()
ROUNDS = Measurement()  # the default stop rule: 20 rounds, 3 s, and quiet or known noise
STAGE = "prefill"


@dataclass(frozen=True)
class Machine:
    noise: float  # of a round
    shift: float = 0.002  # of a whole process against the next
    spikes: float = 0.02  # share of rounds that something interrupts
    swing: float = 0.005  # of the clock, over half a minute

    def record(self, seed: int, slowdown: float = 0.0) -> RunRecord:
        """One measurement of the cell; `slowdown`: of the prefill stage of the policy."""
        draw = random.Random(seed)
        whole = draw.lognormvariate(0, self.shift)

        def speed(now: float) -> float:
            spike = draw.uniform(1.2, 3.0) if draw.random() < self.spikes else 1.0
            return whole * spike * (1 + self.swing * math.sin(now / 5 + seed))

        machine = FakeMachine(self.noise, seed, speed)
        extra = {STAGE: 0.5 * POLICY_MS * slowdown}
        pair = sample_pair(
            machine.round("dense", DENSE_MS),
            machine.round("policy", POLICY_MS, extra),
            ROUNDS.model_copy(update={"seed": seed}),
            clock=machine.clock,
            now=machine.now,
            pause=machine.pause,
        )
        return TEMPLATE.model_copy(
            update={
                "baseline": TEMPLATE.baseline.model_copy(update={"samples": pair.baseline}),
                "policy": TEMPLATE.policy.model_copy(update={"samples": pair.policy}),
                "baseline_again_ms": pair.baseline_again_ms,
            }
        )


def check(machine: Machine, seed: int, slowdown: float, calibration: Calibration) -> Outcome:
    """Baseline once, head now, and once more where the first look was not clear."""
    seeds = iter(range(1000 * seed, 1000 * seed + 1000))
    before = machine.record(next(seeds))

    def measure(cells: Sequence[Cell], place: Place | None) -> list[RunRecord]:
        return [machine.record(next(seeds), slowdown)]

    return against_file([before], [before.cell], 2, calibration, lambda said: None, measure)


def answers(machine: Machine, slowdown: float, checks: int, *, learn: bool = False, start: int = 0) -> Counter[str]:
    calibration: Calibration = {}
    if learn:
        calibration = calibrated([[machine.record(900_000_000 + start + run)] for run in range(6)])
    return Counter(check(machine, start + seed, slowdown, calibration).answer for seed in range(1, checks + 1))


SCENARIOS: tuple[tuple[str, Machine, float, bool], ...] = (
    ("A/A, noise 0.3 %", Machine(0.003), 0.0, False),
    ("A/A, noise 1 %", Machine(0.01), 0.0, False),
    ("A/A, noise 1 %, calibrated", Machine(0.01), 0.0, True),
    ("A/A, noise 3 %", Machine(0.03), 0.0, False),
    ("A/A, noise 10 %", Machine(0.10), 0.0, False),
    ("A/A, noise 1 %, processes 1 % apart", Machine(0.01, shift=0.01), 0.0, False),
    ("A/A, the same, calibrated", Machine(0.01, shift=0.01), 0.0, True),
    ("prefill 5 % slower, noise 0.3 %", Machine(0.003), 0.05, False),
    ("prefill 5 % slower, noise 1 %", Machine(0.01), 0.05, False),
    ("prefill 5 % slower, noise 1 %, calibrated", Machine(0.01), 0.05, True),
    ("prefill 5 % slower, noise 2 %", Machine(0.02), 0.05, False),
    ("prefill 5 % slower, noise 3 %", Machine(0.03), 0.05, False),
    ("prefill 5 % slower, noise 5 %", Machine(0.05), 0.05, False),
    ("prefill 5 % slower, noise 10 %", Machine(0.10), 0.05, False),
    ("prefill 5 % slower, noise 20 %", Machine(0.20), 0.05, False),
    ("prefill 5 % slower, noise 1 %, processes 1 % apart, calibrated", Machine(0.01, shift=0.01), 0.05, True),
    ("prefill 5 % slower, noise 1 %, processes 5 % apart, calibrated", Machine(0.01, shift=0.05), 0.05, True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=200)
    checks = parser.parse_args().checks
    print("| machine | checks | pass | ambiguous | regressed |\n|---|--:|--:|--:|--:|")
    for number, (name, machine, slowdown, learn) in enumerate(SCENARIOS):
        found = answers(machine, slowdown, checks, learn=learn, start=10_000 * number)
        shares = " | ".join(f"{found[answer] / checks:.1%}" for answer in ("pass", "ambiguous", "regressed"))
        print(f"| {name} | {checks} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
