"""The gate against a file, on real rounds of a bundled demo model: does it cry wolf, does it sleep?

`OMP_NUM_THREADS=1 python -m benchmarks.gate_real_runs --write reports/benchmarks/gate_real_runs.json`

The model is loaded once and every record is measured anew: 20 interleaved rounds of dense and FastV, dense again.
Each check goes through the gate's own code, the second look included. The kinds take turns, so that all of
them see the same machine:

- A/A: nothing changed. What one check measured is the baseline of the next; nothing else is shared.
- A policy that sleeps in prefill for 5 % of prefill, and one that sleeps in the selection for 5 % of the request.
- The first of these where every round also sleeps at random: noise that hides it.

`benchmarks.gate_in_turns` does the same with new processes for every look, of base and head in turns.
Says how noisy the machine was in each check, without which the answers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tokprof import demo
from tokprof.atomic import write_text_atomically
from tokprof.environment import machine_warnings, snapshot
from tokprof.gate.calibration import Calibration
from tokprof.gate.checking import against_file, calibrate
from tokprof.gate.times import threshold_of
from tokprof.measure.apart import Place
from tokprof.measure.clock import Clock, HostClock
from tokprof.measure.sampling import Round, sample_pair
from tokprof.measure.stats import median, relative_noise
from tokprof.profiler import Listener
from tokprof.recipe import Cell, Measurement, Method, Setting, Workload
from tokprof.record import RunRecord
from tokprof.resolve import ready
from tokprof.session import Session

SMALL_DEMO = str(Path(demo.__file__).parent / "llava")
SLOWDOWN = 0.05
HIDING = 0.5  # of the request: the longest random sleep
NOISE_BANDS = (0.01, 0.02, 0.05, float("inf"))
SAME, IN_PREFILL, IN_SELECT, HIDDEN = (
    "A/A",
    "prefill sleeps 5 %",
    "selection sleeps 5 % of the request",
    "prefill sleeps 5 %, hidden by noise",
)


@dataclass(frozen=True)
class Sleep:
    """Of a round: so long in one stage, and at random up to so much more."""

    stage: str = "prefill"
    ms: float = 0.0
    random_ms: float = 0.0


AWAKE = Sleep()


class SleepyClock(HostClock):
    """A stage in which to sleep begins with that."""

    def __init__(self) -> None:
        super().__init__()
        self.left: dict[str, float] = {}

    def enter(self, stage: str) -> None:
        super().enter(stage)
        ms = self.left.pop(stage, 0.0)
        if ms:
            time.sleep(ms / 1e3)


class Subject:
    """FastV on the demo, loaded once; every record is measured anew."""

    def __init__(self, model: str, rounds: int) -> None:
        self.measurement = Measurement(
            rounds=rounds, warmup_rounds=1, timeout=600, parity=False, memory=False, activity=False
        )
        self.cell = Cell(
            model=model,
            method=Method(name="fastv", parameters={"keep": 0.25}),
            workload=Workload(new_tokens=1),
            setting=Setting(device="cpu"),
            measurement=self.measurement,
        )
        found = ready(self.cell)
        session = Session(found, Listener())
        self.template = session.measure(found)
        bench = session._bench
        assert bench is not None
        self.dense, self.policy = bench.dense.round, bench._checked(found.policy, bench.prepared, official=False).round
        self.clock, self.draw = SleepyClock(), random.Random(0)

    def record(self, sleep: Sleep = AWAKE) -> RunRecord:
        """One measurement. The policy sleeps; where it does so at random, the dense model does, too."""
        pair = sample_pair(
            self._sleepy(self.dense, replace(sleep, ms=0.0)),
            self._sleepy(self.policy, sleep),
            self.measurement.model_copy(update={"seed": self.draw.randrange(1 << 30)}),
            clock=self.clock,
        )
        old = self.template
        return old.model_copy(
            update={
                "baseline": old.baseline.model_copy(update={"samples": pair.baseline}),
                "policy": old.policy.model_copy(update={"samples": pair.policy}),
                "baseline_again_ms": pair.baseline_again_ms,
            }
        )

    def _sleepy(self, run: Round, sleep: Sleep) -> Round:
        def round_(clock: Clock) -> None:
            self.clock.left = {sleep.stage: sleep.ms + self.draw.uniform(0.0, sleep.random_ms)}
            run(clock)

        return round_


@dataclass(frozen=True)
class Check:
    kind: str
    noise: float  # of the request: the noisier of baseline and head
    slowdown: float  # of the medians of the request, as seen at first
    answer: str
    looks: int
    not_passed: tuple[str, ...]


def checked(kind: str, before: RunRecord, head: Callable[[], RunRecord], known: Calibration) -> tuple[Check, RunRecord]:
    """One check by the gate's own code, and what it measured last."""
    taken: list[RunRecord] = []

    def measure(cells: Sequence[Cell], place: Place | None) -> list[RunRecord]:
        taken.append(head())
        return taken[-1:]

    outcome = against_file([before], [before.cell], 2, known, lambda said: None, measure)
    first, second = (record.policy.samples.total_ms() for record in (before, taken[0]))
    done = Check(
        kind=kind,
        noise=round(max(relative_noise(first), relative_noise(second)), 4),
        slowdown=round(median(second) / median(first) - 1, 4),
        answer=outcome.answer,
        looks=len(taken),
        not_passed=tuple(found.metric for found in outcome.findings if found.answer != "pass"),
    )
    return done, taken[-1]


def all_checks(subject: Subject, checks: int, hidden: int, known: Calibration) -> list[Check]:
    """A/A, then a sleeping policy, and again; now and then one that noise hides."""
    last = subject.record()
    request = median(last.policy.samples.total_ms())
    prefill = median(last.policy.samples.total_ms(("prefill",)))
    in_prefill, in_select = Sleep("prefill", SLOWDOWN * prefill), Sleep("select", SLOWDOWN * request)
    noisy, noise_alone = replace(in_prefill, random_ms=HIDING * request), Sleep(random_ms=HIDING * request)
    found: list[Check] = []
    for number in range(checks):
        done, last = checked(SAME, last, subject.record, known)
        found.append(done)
        kind, sleep = ((IN_PREFILL, in_prefill), (IN_SELECT, in_select))[number % 2]
        found.append(checked(kind, last, lambda sleep=sleep: subject.record(sleep), known)[0])  # type: ignore[misc]
        if (number + 1) * hidden // checks > number * hidden // checks:
            found.append(checked(HIDDEN, subject.record(noise_alone), lambda: subject.record(noisy), known)[0])
    return found


def table(found: Sequence[Check]) -> str:
    """Answers by kind and by how noisy the machine was."""
    lines = ["| kind | noise | checks | pass | ambiguous | regressed |", "|---|---|--:|--:|--:|--:|"]
    for kind in dict.fromkeys(check.kind for check in found):
        least = 0.0
        for most in (*NOISE_BANDS, None):
            chosen = [check for check in found if check.kind == kind and (most is None or least <= check.noise < most)]
            band = "all" if most is None else f"{least:.0%} to {most:.0%}" if most < 1 else f"over {least:.0%}"
            if chosen:
                answers = Counter(check.answer for check in chosen)
                shares = " | ".join(str(answers[answer]) for answer in ("pass", "ambiguous", "regressed"))
                lines.append(f"| {kind} | {band} | {len(chosen)} | {shares} |")
            least = most or least
    return "\n".join(lines)


def as_json(found: Sequence[Check], facts: dict[str, Any]) -> str:
    head = json.dumps(facts, indent=1, ensure_ascii=False)[:-2]
    rows = ",\n  ".join(json.dumps(asdict(check), ensure_ascii=False) for check in found)
    return f'{head},\n "checks": [\n  {rows}\n ]\n}}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", type=int, default=200, help="of A/A; as many of sleeping policies, in two kinds")
    parser.add_argument("--hidden", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", default=SMALL_DEMO)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    before, began = snapshot("cpu"), time.monotonic()
    subject = Subject(given.model, given.rounds)
    known = calibrate(
        [subject.cell], lambda said: None, measure=lambda cells, place: [subject.record()], turns=lambda *_: None
    )
    found = all_checks(subject, given.checks, given.hidden, known)
    ((deviations,),) = (cells.values() for cells in known.values())
    facts = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.gate_real_runs",
        "model": Path(given.model).name,
        "rounds": given.rounds,
        "request_ms": round(median(subject.record().policy.samples.total_ms()), 2),
        "noise": round(median([check.noise for check in found if check.kind != HIDDEN]), 4),
        "thresholds": {metric: round(threshold_of(value, "apart"), 4) for metric, value in deviations.items()},
        "minutes": round((time.monotonic() - began) / 60, 1),
        "warnings": machine_warnings(before),
        "environment": before.model_dump(mode="json", exclude_defaults=True),
    }
    if given.write:
        write_text_atomically(given.write, as_json(found, facts))
    print(table(found))
    for name, value in facts.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
