"""`tokprof check --against-ref` on real processes: does it cry wolf, does it sleep?

`OMP_NUM_THREADS=1 python -m benchmarks.gate_in_turns --write reports/benchmarks/gate_in_turns.json`

Each look of each check starts two new processes that load the bundled LLaVA-NeXT demo and measure FastV and the dense
model round by round in turns. Base and head are two folders, each with the method in a file of its own; nothing else
is shared between checks. Only git is left out. The kinds take turns, so that all of them see the same machine:

- A/A: both files are the same.
- The head's method sleeps in prefill for 5 % of prefill, or in the selection for 5 % of the request.
- The first of these where the methods of both sides also sleep at random: noise that hides it.

Says how noisy the machine was in each check, without which the answers mean nothing: the noise of one side's request
in the noisier of the two, as everywhere in tokprof.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.gate_real_runs import (
    AWAKE,
    HIDDEN,
    HIDING,
    IN_PREFILL,
    IN_SELECT,
    SAME,
    SLOWDOWN,
    Check,
    Sleep,
    as_json,
    table,
)
from tokprof import demo
from tokprof.atomic import write_text_atomically
from tokprof.environment import machine_warnings, snapshot
from tokprof.gate.calibration import IN_TURNS, Calibration, write_calibration
from tokprof.gate.checking import against_reference, calibrate
from tokprof.gate.measuring import Say, Sides, side_by_side
from tokprof.gate.times import threshold_of
from tokprof.measure.apart import Place
from tokprof.measure.stats import median, relative_noise
from tokprof.measure.verdict import judge_in_turns
from tokprof.recipe import Cell, Measurement, Method, Setting, Workload
from tokprof.record import RunRecord

DEMO = str(Path(demo.__file__).parent / "llava-next")
FILE = "sleepy.py"
METHOD = '''"""FastV that sleeps once in every request."""

import random
import time

import torch

from tokprof.measure.clock import Clock, CudaClock, HostClock
from tokprof.policies.fastv import FastV

STAGE, MS, RANDOM_MS = {stage!r}, {ms!r}, {random_ms!r}


class Sleepy(FastV):
    name = "sleepy"


def enter(clock, stage):
    """Only a method selects; what it sleeps belongs to the first stage of that name from there on."""
    Clock.enter(clock, stage)
    entered = [mark[0] for mark in clock._marks]
    if stage == STAGE and "select" in entered and entered[entered.index("select") :].count(stage) == 1:
        ms = MS + random.uniform(0.0, RANDOM_MS)
        if clock.runs_behind:  # the device sleeps: what the host sleeps it may not notice
            torch.cuda._sleep(int(ms * torch.cuda.get_device_properties(0).clock_rate))
        else:
            time.sleep(ms / 1e3)


if MS or RANDOM_MS:
    HostClock.enter = CudaClock.enter = enter
'''


def cell(model: str, device: str, rounds: int) -> Cell:
    return Cell(
        model=model,
        method=Method(name=f"./{FILE}", parameters={"keep": 0.25}),
        workload=Workload(new_tokens=1),
        setting=Setting(device=device),
        measurement=Measurement(rounds=rounds, warmup_rounds=1, parity=False, memory=False, activity=False),
    )


class Folders:
    """Base and head, each with its method."""

    def __init__(self, folder: Path) -> None:
        self.base, self.head = (Place(folder=folder / name) for name in ("base", "head"))
        for place in (self.base, self.head):
            assert place.folder is not None
            place.folder.mkdir()
        self.write()

    def write(self, head: Sleep = AWAKE, base: Sleep = AWAKE) -> None:
        for place, sleep in ((self.base, base), (self.head, head)):
            assert place.folder is not None
            text = METHOD.format(stage=sleep.stage, ms=sleep.ms, random_ms=sleep.random_ms)
            (place.folder / FILE).write_text(text, encoding="utf-8")


def checked(kind: str, wanted: Cell, folders: Folders, known: Calibration) -> tuple[Check, RunRecord]:
    """One check by the gate's own code, and the base as it was measured first."""
    taken: list[Sides] = []

    def measured(cells: Sequence[Cell], base: Place, head: Place, say: Say) -> Sides:
        taken.append(side_by_side(cells, base, head, say))
        return taken[-1]

    outcome = against_reference([wanted], folders.base, folders.head, 2, known, lambda said: None, both=measured)
    assert all(sides.measured == "in turns" for sides in taken)
    base, head = taken[0].base[0], taken[0].head[0]
    first, second = (record.policy.samples.total_ms() for record in (base, head))
    slowdown = judge_in_turns(first, second).slowdown
    assert slowdown is not None
    done = Check(
        kind=kind,
        noise=round(max(relative_noise(first), relative_noise(second)), 4),
        slowdown=round(slowdown.ratio - 1, 4),
        answer=outcome.answer,
        looks=len(taken),
        not_passed=tuple(found.metric for found in outcome.findings if found.answer != "pass"),
    )
    return done, base


def all_checks(wanted: Cell, folders: Folders, counts: tuple[int, int, int], known: Calibration) -> list[Check]:
    """A/A checks, sleeping methods and hidden ones, spread evenly among each other."""
    kinds: list[tuple[float, str]] = []
    for count, names in zip(counts, ((SAME,), (IN_PREFILL, IN_SELECT), (HIDDEN,)), strict=True):
        kinds += [((place + 0.5) / count, names[place % len(names)]) for place in range(count)]
    found: list[Check] = []
    _, last = checked(SAME, wanted, folders, known)
    for _, kind in sorted(kinds):
        request = median(last.policy.samples.total_ms())
        prefill = median(last.policy.samples.total_ms(("prefill",)))
        sleep, noise = Sleep("prefill", SLOWDOWN * prefill), Sleep("prefill", random_ms=HIDING * request)
        heads = {
            SAME: AWAKE,
            IN_PREFILL: sleep,
            IN_SELECT: Sleep("select", SLOWDOWN * request),
            HIDDEN: replace(sleep, random_ms=noise.random_ms),
        }
        folders.write(heads[kind], noise if kind == HIDDEN else AWAKE)
        done, base = checked(kind, wanted, folders, known)
        last = base if kind == SAME else last
        found.append(done)
        print(f"{len(found)} of {len(kinds)}: {done}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--same", type=int, default=200, help="A/A checks")
    parser.add_argument("--slow", type=int, default=100, help="of methods that sleep, in two kinds")
    parser.add_argument("--hidden", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", default=DEMO)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--calibration", type=Path, help="write here what was learned before the checks")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    environment, began = snapshot(given.device), time.monotonic()
    wanted = cell(given.model, given.device, given.rounds)
    with tempfile.TemporaryDirectory() as folder:
        folders = Folders(Path(folder))
        known = calibrate([wanted], print, turns=lambda cells, _, __, say: _in_turns(cells, folders))
        if given.calibration:
            write_calibration(given.calibration, known)
        found = all_checks(wanted, folders, (given.same, given.slow, given.hidden), known)
    ((deviations,),) = (cells.values() for cells in known.values())
    facts = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.gate_in_turns",
        "model": Path(given.model).name,
        "rounds": given.rounds,
        "noise": round(median([check.noise for check in found if check.kind != HIDDEN]), 4),
        "thresholds": {
            metric: round(threshold_of(value, "in turns" if metric.endswith(IN_TURNS) else "apart"), 4)
            for metric, value in deviations.items()
        },
        "minutes": round((time.monotonic() - began) / 60, 1),
        "warnings": machine_warnings(environment),
        "environment": environment.model_dump(mode="json", exclude_defaults=True),
    }
    if given.write:
        write_text_atomically(given.write, as_json(found, facts))
    print(table(found))
    for name, value in facts.items():
        print(f"{name}: {value}")


def _in_turns(cells: Sequence[Cell], folders: Folders) -> tuple[list[RunRecord], list[RunRecord]]:
    sides = side_by_side(cells, folders.base, folders.head, print)
    return sides.base, sides.head


if __name__ == "__main__":
    main()
