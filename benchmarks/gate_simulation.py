"""How often the gate cries wolf, and how often it sleeps: thousands of checks on simulated machines.

Each check is the gate's real code from the first round to the answer (sampling, statistics, verdict,
second look); only the machine is simulated: log-normal noise, spikes, a slow swing of the clock, and a
shift of every process as a whole. Against a file, or of base and head in turns, round by round, each in a
thread of its own on the one simulated machine. `python -m benchmarks.gate_simulation [--checks 200]`
prints the table of docs/measuring.md.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.measure.fakes import FakeMachine
from tests.records import make_record
from tokprof.gate.calibration import RUNS, Calibration, calibrated
from tokprof.gate.checking import against_file, against_reference
from tokprof.gate.measuring import Say, Sides
from tokprof.gate.outcome import Outcome
from tokprof.measure.apart import Place
from tokprof.measure.sampling import sample_pair
from tokprof.measure.turns import Alone, Turns, two_turns
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
        return self._record(self._machine(seed, draw), draw, seed, slowdown, Alone())

    def records_in_turns(self, seed: int, slowdown: float = 0.0) -> tuple[RunRecord, RunRecord]:
        """Base and head: two processes on one machine, of which one has a round at a time."""
        draw = random.Random(seed)
        machine = self._machine(seed, draw)
        with two_sides() as sides, ThreadPoolExecutor(2) as threads:
            base, head = (
                threads.submit(self._record, machine, draw, seed, slower, turns)
                for slower, turns in zip((0.0, slowdown), sides, strict=True)
            )
            return base.result(), head.result()

    def _machine(self, seed: int, draw: random.Random) -> FakeMachine:
        def speed(now: float) -> float:
            spike = draw.uniform(1.2, 3.0) if draw.random() < self.spikes else 1.0
            return spike * (1 + self.swing * math.sin(now / 5 + seed))

        return FakeMachine(self.noise, seed, speed)

    def _record(self, machine: FakeMachine, draw: random.Random, seed: int, slowdown: float, turns: Alone) -> RunRecord:
        whole = draw.lognormvariate(0, self.shift)
        extra = {STAGE: 0.5 * POLICY_MS * slowdown * whole}
        pair = sample_pair(
            machine.round("dense", DENSE_MS * whole),
            machine.round("policy", POLICY_MS * whole, extra),
            ROUNDS.model_copy(update={"seed": seed}),
            clock=machine.clock,
            now=machine.now,
            pause=machine.pause,
            turns=turns,
        )
        return TEMPLATE.model_copy(
            update={
                "baseline": TEMPLATE.baseline.model_copy(update={"samples": pair.baseline}),
                "policy": TEMPLATE.policy.model_copy(update={"samples": pair.policy}),
                "baseline_again_ms": pair.baseline_again_ms,
            }
        )


@contextlib.contextmanager
def two_sides() -> Iterator[tuple[Turns, Turns]]:
    first, second = two_turns()
    try:
        yield Turns(first), Turns(second)
    finally:
        for turn in (first, second):
            os.close(turn.hears)
            os.close(turn.tells)


def check(machine: Machine, seed: int, slowdown: float, calibration: Calibration) -> Outcome:
    """Baseline once, head now, and once more where the first look was not clear."""
    seeds = iter(range(1000 * seed, 1000 * seed + 1000))
    before = machine.record(next(seeds))

    def measure(cells: Sequence[Cell], place: Place | None) -> list[RunRecord]:
        return [machine.record(next(seeds), slowdown)]

    return against_file([before], [before.cell], 2, calibration, lambda said: None, measure)


def check_in_turns(machine: Machine, seed: int, slowdown: float, calibration: Calibration) -> Outcome:
    seeds = iter(range(1000 * seed, 1000 * seed + 1000))

    def both(cells: Sequence[Cell], base: Place, head: Place, say: Say) -> Sides:
        before, after = machine.records_in_turns(next(seeds), slowdown)
        return Sides([before], [after], "in turns")

    here = Place()
    return against_reference([TEMPLATE.cell], here, here, 2, calibration, lambda said: None, both=both)


def answers(
    machine: Machine, slowdown: float, checks: int, *, learn: bool = False, in_turns: bool = False, start: int = 0
) -> Counter[str]:
    calibration: Calibration = {}
    if learn:
        runs = [machine.records_in_turns(900_000_000 + start + run) for run in range(RUNS)]
        calibration = calibrated([[one] for one, _ in runs], [[two] for _, two in runs])
    ask = check_in_turns if in_turns else check
    return Counter(ask(machine, start + seed, slowdown, calibration).answer for seed in range(1, checks + 1))


SCENARIOS: tuple[tuple[str, Machine, float, bool], ...] = (
    ("A/A, noise 0.3 %", Machine(0.003), 0.0, False),
    ("A/A, noise 1 %", Machine(0.01), 0.0, False),
    ("A/A, noise 1 %, calibrated", Machine(0.01), 0.0, True),
    ("A/A, noise 3 %", Machine(0.03), 0.0, False),
    ("A/A, noise 10 %", Machine(0.10), 0.0, False),
    ("A/A, noise 1 %, processes 1 % apart", Machine(0.01, shift=0.01), 0.0, False),
    ("A/A, the same, calibrated", Machine(0.01, shift=0.01), 0.0, True),
    ("A/A, noise 1 %, clock ± 5 %, calibrated", Machine(0.01, swing=0.05), 0.0, True),
    ("prefill 5 % slower, noise 0.3 %", Machine(0.003), 0.05, False),
    ("prefill 5 % slower, noise 1 %", Machine(0.01), 0.05, False),
    ("prefill 5 % slower, noise 1 %, calibrated", Machine(0.01), 0.05, True),
    ("prefill 5 % slower, noise 1 %, clock ± 5 %, calibrated", Machine(0.01, swing=0.05), 0.05, True),
    ("prefill 5 % slower, noise 2 %", Machine(0.02), 0.05, False),
    ("prefill 5 % slower, noise 3 %", Machine(0.03), 0.05, False),
    ("prefill 5 % slower, noise 5 %", Machine(0.05), 0.05, False),
    ("prefill 5 % slower, noise 10 %", Machine(0.10), 0.05, False),
    ("prefill 5 % slower, noise 20 %", Machine(0.20), 0.05, False),
    ("prefill 5 % slower, noise 1 %, processes 1 % apart, calibrated", Machine(0.01, shift=0.01), 0.05, True),
    ("prefill 5 % slower, noise 1 %, processes 5 % apart, calibrated", Machine(0.01, shift=0.05), 0.05, True),
)
MOODY = Machine(0.01, swing=0.05)  # as shared machines are
IN_TURNS: tuple[tuple[str, Machine, float, bool], ...] = (
    ("A/A, noise 1 %", Machine(0.01), 0.0, False),
    ("A/A, noise 1 %, calibrated", Machine(0.01), 0.0, True),
    ("A/A, noise 1 %, clock ± 5 %, calibrated", MOODY, 0.0, True),
    ("A/A, noise 3 %", Machine(0.03), 0.0, False),
    ("A/A, noise 10 %", Machine(0.10), 0.0, False),
    ("A/A, noise 1 %, processes 1 % apart", Machine(0.01, shift=0.01), 0.0, False),
    ("A/A, the same, calibrated", Machine(0.01, shift=0.01), 0.0, True),
    ("prefill 5 % slower, noise 1 %", Machine(0.01), 0.05, False),
    ("prefill 5 % slower, noise 1 %, calibrated", Machine(0.01), 0.05, True),
    ("prefill 5 % slower, noise 1 %, clock ± 5 %, calibrated", MOODY, 0.05, True),
    ("prefill 5 % slower, noise 2 %", Machine(0.02), 0.05, False),
    ("prefill 5 % slower, noise 3 %", Machine(0.03), 0.05, False),
    ("prefill 5 % slower, noise 10 %", Machine(0.10), 0.05, False),
    ("prefill 5 % slower, noise 20 %", Machine(0.20), 0.05, False),
    ("prefill 5 % slower, noise 1 %, processes 1 % apart, calibrated", Machine(0.01, shift=0.01), 0.05, True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=200)
    parser.add_argument("--in-turns", action="store_true", help="the second table alone")
    given = parser.parse_args()
    for in_turns, scenarios in ((False, SCENARIOS), (True, IN_TURNS)):
        if given.in_turns and not in_turns:
            continue
        print(f"\n{'in turns' if in_turns else 'against a file'}\n")
        print("| machine | checks | pass | ambiguous | regressed |\n|---|--:|--:|--:|--:|")
        for number, (name, machine, slowdown, learn) in enumerate(scenarios):
            start = 10_000 * (number + 100 * in_turns)
            found = answers(machine, slowdown, given.checks, learn=learn, in_turns=in_turns, start=start)
            shares = " | ".join(f"{found[answer] / given.checks:.1%}" for answer in ("pass", "ambiguous", "regressed"))
            print(f"| {name} | {given.checks} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
