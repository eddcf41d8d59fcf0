"""The statistics, against known answers, by simulation and by property."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokprof.measure import stats

TIMES = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=60)
FEW = settings(max_examples=60, deadline=None)


def test_known_answers() -> None:
    assert stats.median([3, 1, 2]) == 2
    assert stats.median([4, 1, 2, 3]) == 2.5
    assert stats.quartiles([1, 2, 3, 4, 5]) == (2, 4)
    assert stats.p90(list(range(11))) == 9
    assert stats.summarize([1.0] * 9 + [50.0]).outliers == (9,)


def test_noise_of_a_normal_distribution_despite_outliers() -> None:
    draw = random.Random(0)
    samples = [draw.gauss(100, 2) for _ in range(5000)] + [1e6] * 50
    assert stats.relative_noise(samples) == pytest.approx(0.02, rel=0.06)


@pytest.mark.parametrize("count,paired", [(12, True), (25, False), (1000, True)])
def test_the_interval_covers_the_truth_in_95_of_100(count: int, paired: bool) -> None:
    """Log-normal noise of 1 %, and 3 % that both arms of a pair share. 150 trials: 95 % ± 5.3 at three deviations;
    a bootstrapped median is known to err on the wide side."""
    covered = 0
    for trial in range(150):
        draw = random.Random(trial)
        shared = [draw.lognormvariate(0, 0.03) for _ in range(count)]
        baseline = [100 * common * draw.lognormvariate(0, 0.01) for common in shared]
        if not paired:
            shared = [draw.lognormvariate(0, 0.03) for _ in range(count)]
        policy = [80 * common * draw.lognormvariate(0, 0.01) for common in shared]
        interval = stats.ratio_interval(baseline, policy, trial, paired=paired)
        covered += interval.low <= 1.25 <= interval.high
    assert covered >= 134


def test_pairing_narrows_the_interval() -> None:
    draw = random.Random(0)
    shared = [draw.lognormvariate(0, 0.05) for _ in range(50)]
    baseline = [100 * common * draw.lognormvariate(0, 0.005) for common in shared]
    policy = [50 * common * draw.lognormvariate(0, 0.005) for common in shared]
    together = stats.ratio_interval(baseline, policy)
    apart = stats.ratio_interval(baseline, policy, paired=False)
    assert together.half_width < apart.half_width / 1.5


def test_large_samples_agree_with_plain_resampling(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(1)
    shared = [draw.lognormvariate(0, 0.02) for _ in range(401)]
    baseline = [10 * common * draw.lognormvariate(0, 0.02) for common in shared]
    policy = [9 * common * draw.lognormvariate(0, 0.02) for common in shared]
    quick = stats.ratio_interval(baseline, policy)
    monkeypatch.setattr(stats, "RESAMPLE_UP_TO", 500)
    plain = stats.ratio_interval(baseline, policy)
    assert quick.ratio == plain.ratio
    assert quick.half_width == pytest.approx(plain.half_width, rel=0.35)


def test_ten_thousand_samples_need_no_resampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resampling them would draw ten million values; none is drawn."""
    monkeypatch.setattr(random.Random, "choices", lambda *_, **__: pytest.fail("resampled"))
    draw = random.Random(0)
    samples = [draw.gauss(100, 1) for _ in range(10_000)]
    assert stats.ratio_interval(samples, samples[::-1], paired=True).contains_one


def test_a_ratio_that_may_be_one_is_said_to_be_one() -> None:
    assert stats.describe(stats.Interval(0.98, 1.04, 1.1)) == "≈ 1"
    assert stats.describe(stats.Interval(1.9, 2.0, 2.1)) == "2.00×"


def test_mann_whitney_known_values() -> None:
    # by hand: U = 12.5, mean 50, five ties of two: variance 100/12·(21 − 30/380) = 174.34, z = 37/13.204
    assert stats.mann_whitney_p(range(10), range(5, 15)) == pytest.approx(
        math.erfc(37 / math.sqrt(2 * 174.342)), rel=1e-4
    )
    assert stats.mann_whitney_p([1, 2, 3], [1, 2, 3]) == 1.0
    assert stats.mann_whitney_p([5] * 20, [5] * 20) == 1.0
    assert stats.mann_whitney_p(range(20), range(20, 40)) < 1e-6


def test_mann_whitney_false_alarms_are_as_rare_as_it_says() -> None:
    draw = random.Random(0)
    alarms = sum(
        stats.mann_whitney_p([draw.random() for _ in range(15)], [draw.random() for _ in range(15)]) < 0.05
        for _ in range(1000)
    )
    assert 20 <= alarms <= 75


def normal(centre: float, count: int, seed: int, noise: float = 0.002) -> list[float]:
    draw = random.Random(seed)
    return [draw.gauss(centre, noise * centre) for _ in range(count)]


@pytest.mark.parametrize(
    "moved,verdict", [(1.0, "steady"), (1.02, "drifting"), (0.98, "drifting"), (1.05, "ambiguous")]
)
def test_drift(moved: float, verdict: str) -> None:
    assert stats.drift(normal(100, 30, 0), normal(100 * moved, 8, 1)).verdict == verdict


def test_drift_that_noise_explains_is_none() -> None:
    assert stats.drift(normal(100, 30, 0, noise=0.2), normal(102, 5, 1, noise=0.2)).verdict == "steady"


def test_drift_of_nothing_is_steady() -> None:
    assert stats.drift([1.0, 2.0], []).verdict == "steady"
    assert stats.drift([0.0], [math.nan]).verdict == "steady"


def test_usable() -> None:
    assert stats.usable([0.1, 2])
    assert not any(stats.usable(bad) for bad in ([], [0.0], [-1.0], [math.nan], [math.inf]))


@FEW
@given(TIMES)
def test_summary_is_ordered_and_inside(samples: list[float]) -> None:
    found = stats.summarize(samples)
    # interpolation may miss an end by a rounding step
    slack = 1e-9 * max(samples)
    assert found.least - slack <= found.low_quartile <= found.median + slack
    assert found.median - slack <= found.high_quartile <= max(samples) + slack
    assert found.median == pytest.approx(statistics.median(samples))
    assert found.noise >= 0


@FEW
@given(TIMES, TIMES, st.integers(0, 5))
def test_interval_holds_its_ratio_and_is_reproducible(first: list[float], second: list[float], seed: int) -> None:
    interval = stats.ratio_interval(first, second, seed)
    assert 0 < interval.low <= interval.ratio <= interval.high < math.inf
    assert interval == stats.ratio_interval(first, second, seed)
    lowest, highest = min(first) / max(second), max(first) / min(second)
    assert lowest * (1 - 1e-9) <= interval.low and interval.high <= highest * (1 + 1e-9)


@FEW
@given(TIMES)
def test_equal_arms_are_one(samples: list[float]) -> None:
    assert stats.ratio_interval(samples, samples).contains_one


@FEW
@given(TIMES, st.floats(0.01, 100))
def test_scaling_scales_the_ratio(samples: list[float], factor: float) -> None:
    slower = [value * factor for value in samples]
    assert stats.ratio_interval(slower, samples).ratio == pytest.approx(factor)


@FEW
@given(TIMES, TIMES)
def test_mann_whitney_is_a_probability_and_symmetric(first: list[float], second: list[float]) -> None:
    p = stats.mann_whitney_p(first, second)
    assert 0 <= p <= 1
    assert p == pytest.approx(stats.mann_whitney_p(second, first))


@FEW
@given(TIMES, TIMES)
def test_drift_always_has_a_verdict(first: list[float], second: list[float]) -> None:
    assert stats.drift(first, second).verdict in ("steady", "drifting", "ambiguous")


@given(more=st.integers(0, 60), less=st.integers(0, 60))
def test_sign_test_is_that_of_a_fair_coin(more: int, less: int) -> None:
    count = more + less
    exact = 2 * sum(math.comb(count, k) for k in range(max(more, less), count + 1)) / 2**count
    assert stats.sign_p(more, less) == stats.sign_p(less, more) == pytest.approx(min(1.0, exact))


def test_sign_test_of_ten_thousand_pairs() -> None:
    assert stats.sign_p(5000, 5000) == 1.0 and 0 <= stats.sign_p(6000, 4000) < 1e-80
