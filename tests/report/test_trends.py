from __future__ import annotations

from tests.records import make_record
from tokprof.recipe import Workload
from tokprof.record import RunRecord
from tokprof.report import trends
from tokprof.report.html import page


def at_batches(*policy_ms: float, method: str = "fastv") -> list[RunRecord]:
    return [
        make_record(method, policy_ms=ms, workload=Workload(batch=2**place))  # type: ignore[call-arg]
        for place, ms in enumerate(policy_ms)
    ]


def test_a_win_that_turns_into_a_loss_is_said_aloud() -> None:
    assert trends.turns(at_batches(50, 80, 130)) == ["fastv keep=0.25 wins at batch 1, 2 and loses at 4"]


def test_what_an_interval_leaves_open_is_neither() -> None:
    assert trends.turns(at_batches(50, 100)) == []


def test_only_what_is_otherwise_alike_makes_a_trend() -> None:
    mixed = [*at_batches(50, 60), make_record("vtw"), make_record("fastv", visual=576)]
    found = trends.trends(mixed)
    assert [(trend.axis, [place for place, _ in trend.points]) for trend in found] == [
        ("visual tokens", [576, 2880]),
        ("batch", [1, 2]),
    ]


def test_the_page_draws_them_and_says_them() -> None:
    text = page(at_batches(50, 80, 130))
    assert "Speed-up against batch" in text and "wins at batch 1, 2 and loses at 4" in text
    assert "Speed-up against" not in page([make_record("fastv")])
