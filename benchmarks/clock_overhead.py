"""What marking the stages costs: the same requests with and without marks, interleaved.

`python -m benchmarks.clock_overhead [--rounds 60]`. Two answers: the ratio of whole requests, with its
interval, which is as good as the machine is quiet; and the price of the marks themselves, timed alone,
as a share of the request.
"""

from __future__ import annotations

import argparse
import time

from tokprof.environment import machine_warnings, snapshot
from tokprof.measure.clock import Clock, CudaClock, HostClock, NoClock
from tokprof.measure.stats import median, ratio_interval
from tokprof.profiler import Listener
from tokprof.recipe import Cell, Measurement, Method, Setting, Workload
from tokprof.resolve import ready
from tokprof.session import Bench, Session

REPEATS = 2000


class CountingClock(NoClock):
    """How many marks a request makes."""

    def __init__(self) -> None:
        super().__init__()
        self.marks = 0

    def enter(self, stage: str) -> None:
        self.marks += 1


def timed_ms(bench: Bench, clock: Clock) -> float:
    began = time.perf_counter_ns()
    bench.dense.round(clock)
    clock.read()
    return (time.perf_counter_ns() - began) / 1e6


def mark_ms(clock: Clock, marks: int) -> float:
    """A round that does nothing but mark."""
    costs = []
    for _ in range(REPEATS):
        began = time.perf_counter_ns()
        for _ in range(marks):
            clock.enter("prefill")
        clock.read()
        costs.append((time.perf_counter_ns() - began) / 1e6)
    return median(costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    cell = Cell(
        model="demo",
        method=Method(name="fastv", parameters={"keep": 0.25}),
        workload=Workload(),
        setting=Setting(device=given.device),
        measurement=Measurement(parity=False),
    )
    found = ready(cell)
    bench = Bench(Session(found, Listener()), found)
    clock: Clock = CudaClock() if found.device.startswith("cuda") else HostClock()
    counting = CountingClock()
    bench.dense.round(counting)
    with_marks, without = [], []
    for number in range(given.rounds + 3):
        order = ((clock, with_marks), (NoClock(), without))
        for which, times in order if number % 2 else order[::-1]:
            times.append(timed_ms(bench, which))
    interval = ratio_interval(with_marks[3:], without[3:])
    price = mark_ms(clock, counting.marks)
    environment = snapshot(found.device)
    print(f"{environment.device.name}, torch {environment.libraries['torch']}, a dense request of the demo")
    print(
        f"with ÷ without marks: {interval.ratio:.4f} [{interval.low:.4f}, {interval.high:.4f}], {given.rounds} rounds"
    )
    share = price / median(without[3:])
    print(f"{counting.marks} marks and the reading: {price * 1e3:.1f} µs, {share:.4%} of the request")
    for warning in machine_warnings(environment):
        print(f"warning: {warning}")


if __name__ == "__main__":
    main()
