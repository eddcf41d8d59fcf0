"""Intervals and the exact test against definitions computed the slow way, and against printed values."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokprof.accuracy.proportions import mcnemar, paired, wilson


@pytest.mark.parametrize(
    ("right", "asked", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_newcombe_prints_it(right: int, asked: int, low: float, high: float) -> None:
    assert wilson(right, asked) == pytest.approx((low, high), abs=5e-5)


@given(asked=st.integers(1, 2000), data=st.data())
def test_both_ends_of_wilson_solve_its_equation(asked: int, data: st.DataObject) -> None:
    """An end p satisfies (share − p)² = z² p(1−p)/n: the definition."""
    right = data.draw(st.integers(0, asked))
    share = right / asked
    for end in wilson(right, asked):
        assert (share - end) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / asked, abs=1e-12)


def test_wilson_is_symmetric_and_refuses_nonsense() -> None:
    low, high = wilson(3, 40)
    assert wilson(37, 40) == pytest.approx((1 - high, 1 - low))
    for right, asked in ((1, 0), (5, 4), (-1, 4)):
        with pytest.raises(ValueError):
            wilson(right, asked)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_adds_up_all_splits_at_least_as_uneven(better: int, worse: int) -> None:
    different = better + worse
    uneven = abs(better - worse)
    slow = sum(
        Fraction(math.comb(different, heads), 2**different)
        for heads in range(different + 1)
        if abs(different - 2 * heads) >= uneven
    )
    assert mcnemar(better, worse) == pytest.approx(float(slow))
    assert mcnemar(better, worse) == mcnemar(worse, better)


def test_mcnemar_of_thousands_neither_overflows_nor_loses_the_tail() -> None:
    assert 0 < mcnemar(2200, 1800) < 1e-8
    assert mcnemar(0, 0) == 1.0


def test_paired_counts_questions_that_changed() -> None:
    found = paired([1, 1, 0, 1, 0], [1, 0, 1, 0, 0])
    assert (found.better, found.worse) == (2, 1)
    assert found.difference == pytest.approx(0.2)
    assert found.p == 1.0
    assert paired([0.3, 1.0], [0.6, 0.9]).difference == pytest.approx(-0.1)
