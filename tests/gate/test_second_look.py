"""Nothing has regressed that did so only once, and what is unclear is looked at again."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.gate.made import BASE, quiet, scripted
from tests.records import make_record
from tokprof.errors import MachineError
from tokprof.gate.checking import against_file, against_reference, calibrate
from tokprof.gate.measuring import Sides, adapted, in_turns, one_after_the_other
from tokprof.gate.outcome import Finding, Outcome, confirmed
from tokprof.gate.verdicts import pooled
from tokprof.measure.apart import CrashError, Place


def finding(answer: Any, metric: str = "request") -> Outcome:
    return Outcome((Finding(2, "cell", metric, answer),))


@pytest.mark.parametrize(
    "first,second,settled",
    [
        ("regressed", "regressed", "regressed"),
        ("regressed", "pass", "ambiguous"),
        ("regressed", "ambiguous", "ambiguous"),
        ("ambiguous", "pass", "pass"),
        ("ambiguous", "ambiguous", "ambiguous"),
        ("ambiguous", "regressed", "ambiguous"),
        ("pass", "regressed", "pass"),
        ("incomparable", "pass", "incomparable"),
    ],
)
def test_only_what_regressed_twice_has_regressed(first: str, second: str, settled: str) -> None:
    assert confirmed(finding(first), finding(second)).answer == settled


def test_the_worst_finding_decides() -> None:
    both = Outcome((*finding("pass").findings, *finding("ambiguous").findings, *finding("regressed").findings))
    assert both.answer == "regressed" and both.exit_code == 1


def test_a_check_looks_twice_before_it_cries_wolf() -> None:
    slow, fine = make_record(policy_ms=60, seed=7), make_record(seed=8)
    measure, asked = scripted(slow, fine)
    assert against_file([BASE], [BASE.cell], 2, {}, quiet, measure).answer == "ambiguous"
    measure, asked = scripted(slow, slow)
    assert against_file([BASE], [BASE.cell], 2, {}, quiet, measure).answer == "regressed"
    measure, asked = scripted(fine)
    assert against_file([BASE], [BASE.cell], 2, {}, quiet, measure).answer == "pass" and len(asked) == 1


def test_two_checkouts_that_know_no_turns_are_measured_one_after_the_other_and_pooled() -> None:
    base, head = Place(Path("base")), Place(Path("head"))
    measure, asked = scripted(*(make_record(seed=seed) for seed in range(4)))
    sides = one_after_the_other([BASE.cell], base, head, measure)
    assert asked == [base, head, head, base] and sides.measured == "in one job"
    assert sides.base[0].policy.samples.rounds == sides.head[0].policy.samples.rounds == 40
    measure, asked = scripted(
        make_record(), make_record(per_layer=[7] * 32), make_record(), make_record(per_layer=[7] * 32)
    )
    outcome = against_reference([BASE.cell], base, head, 1, {}, quiet, measure)
    assert outcome.answer == "regressed" and asked == [base, head] * 2


def test_times_of_two_checkouts_are_judged_as_they_were_measured() -> None:
    drifted = {"baseline_again_ms": [110.0, 110.5, 111.0, 110.2, 110.7]}
    slow = make_record(policy_ms=53, seed=7, **drifted), make_record(policy_ms=53, seed=8, **drifted)
    for measured, answer in (("in turns", "regressed"), ("in one job", "ambiguous")):
        heads = iter(slow)

        def both(*_: Any, measured: Any = measured, heads: Any = heads) -> Sides:
            return Sides([BASE], [next(heads)], measured)

        assert against_reference([BASE.cell], Place(), Place(), 2, {}, quiet, both=both).answer == answer


def test_what_cannot_run_twice_at_once_runs_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: Any) -> Any:
        raise MachineError("out of memory", "a smaller model")

    monkeypatch.setattr("tokprof.gate.measuring.can_take_turns", lambda *places: True)
    monkeypatch.setattr("tokprof.gate.measuring.measure_in_turns", too_large)
    heard: list[str] = []
    assert in_turns([BASE.cell], Place(), Place(), heard.append) is None and heard == [
        "not both at once: out of memory"
    ]
    measure, asked = scripted(*(make_record(seed=seed) for seed in range(3)))
    calibrate([BASE.cell], heard.append, 3, measure)
    crashed = CrashError("ZeroDivisionError", "look"), CrashError("OutOfMemoryError: CUDA out of memory", "less")
    for crash, falls_back in zip(crashed, (False, True), strict=True):
        monkeypatch.setattr("tokprof.gate.measuring.measure_in_turns", Mock(side_effect=crash))
        with contextlib.nullcontext() if falls_back else pytest.raises(CrashError):
            assert in_turns([BASE.cell], Place(), Place(), quiet) is None
    assert len(asked) == 3 and sum("at once" in line for line in heard) == 2, "it is not tried for every run"


def test_pooling_keeps_cells_apart() -> None:
    runs = [[make_record(keep=keep, seed=seed) for keep in (0.1, 0.25)] for seed in (1, 2)]
    assert [record.policy.parameters["keep"] for record in pooled(runs)] == [0.1, 0.25]


def test_tier_1_measures_little_and_flags_win() -> None:
    (cell,) = adapted([BASE.cell], 1, device="cpu")
    assert (cell.measurement.rounds, cell.measurement.parity, cell.setting.device) == (2, False, "cpu")
    (cell,) = adapted([BASE.cell], 2, rounds=9, timeout=None)
    assert cell.measurement.rounds == 9 and cell.measurement.activity
