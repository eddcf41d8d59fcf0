"""Two that measure in turns: one at a time, equally often, and never waiting for who is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import groupby

import pytest

from tests.measure.fakes import FakeMachine
from tokprof.measure import turns as module
from tokprof.measure.clock import Clock
from tokprof.measure.sampling import PairSamples, sample_pair
from tokprof.measure.turns import PLACE, SECOND, Alone, Turn, Turns, turns_of_this_process, two_turns
from tokprof.recipe import Measurement

Sides = tuple[Turns, Turns]
PATIENCE = 20.0  # seconds, after which a test has hung


@pytest.fixture
def sides() -> Iterator[Sides]:
    turns = two_turns()
    yield Turns(turns[0]), Turns(turns[1])
    for end in (end for turn in turns for end in (turn.hears, turn.tells)):
        try:
            os.close(end)
        except OSError:
            continue  # its side has left


def side_by_side(*sides: Callable[[], None]) -> None:
    threads = [threading.Thread(target=side, daemon=True) for side in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "one waits for ever"


class Side:
    """A machine of its own in virtual time; whoever runs a round says so."""

    def __init__(
        self, name: str, turns: Alone, said: list[str], measurement: Measurement, *, fails: int = 10**9
    ) -> None:
        self.name, self.turns, self.said, self.measurement, self.left = name, turns, said, measurement, fails
        self.machine = FakeMachine(seed=len(name))
        self.samples: PairSamples | None = None

    def __call__(self) -> None:
        dense, policy = self.machine.round("dense", 100.0), self.machine.round("policy", 50.0)

        def told(run: Callable[[Clock], None]) -> Callable[[Clock], None]:
            def round_(clock: Clock) -> None:
                self.left -= 1
                if self.left < 0:
                    raise RuntimeError("gone")
                self.said.append(self.name)
                run(clock)

            return round_

        try:
            self.samples = sample_pair(
                told(dense),
                told(policy),
                self.measurement,
                clock=self.machine.clock,
                now=self.machine.now,
                turns=self.turns,
            )
        except RuntimeError:
            return


def measured(sides: Sides, first: Measurement, second: Measurement) -> tuple[Side, Side, list[str]]:
    said: list[str] = []
    one, two = Side("one", sides[0], said, first), Side("other", sides[1], said, second)
    side_by_side(one, two)
    return one, two, said


def test_one_pair_here_one_pair_there_and_as_many(sides: Sides) -> None:
    wanted = Measurement(rounds=6, warmup_rounds=1)
    one, two, said = measured(sides, wanted, wanted)
    stretches = [(name, len(list(rounds))) for name, rounds in groupby(said)]
    assert [name for name, _ in stretches] == ["one", "other"] * 8  # warm-up, six pairs, dense again
    assert [count for _, count in stretches] == [4] * 2 + [2] * 12 + [5] * 2
    assert one.samples and two.samples
    assert one.samples.policy.rounds == two.samples.policy.rounds == 6


@pytest.mark.parametrize("first,second", [(4, 9), (9, 4)])
def test_who_has_enough_goes_on_until_both_have(sides: Sides, first: int, second: int) -> None:
    one, two, _ = measured(sides, Measurement(rounds=first), Measurement(rounds=second))
    assert one.samples and two.samples
    assert one.samples.policy.rounds == two.samples.policy.rounds == 9


def test_enough_once_said_stays_said(sides: Sides) -> None:
    """The stop rule's estimate comes and goes; two that had to agree in the same round would run for ever."""
    alone = Side("one", Alone(), [], Measurement(min_seconds=0))
    alone()
    one, two, _ = measured(sides, Measurement(min_seconds=0), Measurement(min_seconds=0, seed=1))
    assert alone.samples and one.samples and two.samples
    assert one.samples.policy.rounds == two.samples.policy.rounds < 10 * alone.samples.policy.rounds


def test_again_for_the_next_policy(sides: Sides) -> None:
    for _ in range(3):
        one, two, said = measured(sides, Measurement(rounds=3), Measurement(rounds=3))
        assert one.samples and two.samples and said[-1] == "other"


@pytest.mark.parametrize("fails", [0, 2, 5, 12])
@pytest.mark.parametrize("failing", [0, 1])
def test_a_side_that_fails_is_not_waited_for(sides: Sides, failing: int, fails: int) -> None:
    said: list[str] = []
    wanted = Measurement(rounds=6, warmup_rounds=1)
    both = [
        Side(name, turns, said, wanted, fails=fails if place == failing else 10**9)
        for place, (name, turns) in enumerate(zip(("one", "other"), sides, strict=True))
    ]
    side_by_side(*both)
    left = both[1 - failing].samples
    assert both[failing].samples is None and left is not None and left.policy.rounds == 6


def test_who_is_alone_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLACE, raising=False)
    turns_of_this_process.cache_clear()
    turns = turns_of_this_process()
    assert type(turns) is Alone and turns.pass_on(enough=True) and not turns.pass_on(enough=False)
    turns_of_this_process.cache_clear()


def test_a_process_is_told_its_side_and_does_not_pass_it_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLACE, str(Turn(SECOND, 3, 4)))
    turns_of_this_process.cache_clear()
    assert isinstance(turns_of_this_process(), Turns) and PLACE not in os.environ
    turns_of_this_process.cache_clear()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_both_stay_on_the_same_core() -> None:
    script = (
        f"from {module.__name__} import *; import os; Alone().share_core(); print(len(os.sched_getaffinity(0)));"
        "Turns(Turn(FIRST, 0, 1)).share_core(); print(os.sched_getaffinity(0))"
    )
    said = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout for _ in range(2)]
    free, core = said[0].splitlines()
    assert int(free) == len(os.sched_getaffinity(0)) and core == f"{{{max(os.sched_getaffinity(0))}}}"
    assert said[0] == said[1]
