"""A few of the checks that benchmarks/gate_simulation.py makes by the hundred."""

from __future__ import annotations

import pytest

from benchmarks.gate_simulation import Machine, answers


@pytest.mark.parametrize(
    "machine,slowdown,wanted",
    [
        (Machine(noise=0.01), 0.0, {"pass"}),
        (Machine(noise=0.01), 0.05, {"regressed"}),
        (Machine(noise=0.2), 0.05, {"ambiguous"}),
    ],
    ids=["nothing changed", "5 % in one stage", "noise hides 5 %"],
)
def test_the_gate_neither_cries_wolf_nor_sleeps(machine: Machine, slowdown: float, wanted: set[str]) -> None:
    assert set(answers(machine, slowdown, checks=3)) == wanted
