"""Nothing has regressed that did so only once, and what is unclear is looked at again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.gate.made import BASE, quiet, scripted
from tests.records import make_record
from tokprof.gate.checking import against_file, against_reference
from tokprof.gate.measuring import adapted, side_by_side
from tokprof.gate.outcome import Finding, Outcome, confirmed
from tokprof.gate.verdicts import pooled
from tokprof.measure.apart import Place


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


def test_two_checkouts_are_measured_in_turns_and_pooled() -> None:
    base, head = Place(Path("base")), Place(Path("head"))
    measure, asked = scripted(*(make_record(seed=seed) for seed in range(4)))
    before, after = side_by_side([BASE.cell], base, head, measure)
    assert asked == [base, head, head, base]
    assert before[0].policy.samples.rounds == after[0].policy.samples.rounds == 40
    measure, asked = scripted(
        make_record(), make_record(per_layer=[7] * 32), make_record(), make_record(per_layer=[7] * 32)
    )
    outcome = against_reference([BASE.cell], base, head, 1, {}, quiet, measure)
    assert outcome.answer == "regressed" and asked == [base, head] * 2


def test_pooling_keeps_cells_apart() -> None:
    runs = [[make_record(keep=keep, seed=seed) for keep in (0.1, 0.25)] for seed in (1, 2)]
    assert [record.policy.parameters["keep"] for record in pooled(runs)] == [0.1, 0.25]


def test_tier_1_measures_little_and_flags_win() -> None:
    (cell,) = adapted([BASE.cell], 1, device="cpu")
    assert (cell.measurement.rounds, cell.measurement.parity, cell.setting.device) == (2, False, "cpu")
    (cell,) = adapted([BASE.cell], 2, rounds=9, timeout=None)
    assert cell.measurement.rounds == 9 and cell.measurement.activity
