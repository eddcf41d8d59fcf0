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


def test_rows_of_a_grid_say_what_tells_them_apart() -> None:
    grid = [
        make_record(workload=Workload(batch=batch, new_tokens=length), policy_ms=ms)  # type: ignore[call-arg]
        for batch, length, ms in ((1, 1, 50), (4, 1, 50), (1, 16, 50), (4, 16, 130))
    ]
    labels = {axis: [trend.label for trend in trends.trends(grid) if trend.axis == axis] for axis in trends.AXES}
    assert labels == {
        "visual tokens": [],
        "batch": ["fastv keep=0.25 · 1 new token", "fastv keep=0.25 · 16 new tokens"],
        "new tokens": ["fastv keep=0.25 · batch 1", "fastv keep=0.25 · batch 4"],
    }
    assert "fastv keep=0.25 · 16 new tokens wins at batch 1 and loses at 4" in trends.turns(grid)


def test_two_models_in_one_table_have_their_names() -> None:
    both = [
        make_record(model=model, workload=Workload(batch=batch))  # type: ignore[call-arg]
        for model in ("llava-next-7b", "llava-next-13b")
        for batch in (1, 4)
    ]
    assert [trend.label for trend in trends.trends(both)] == [
        "fastv keep=0.25 · llava-next-7b",
        "fastv keep=0.25 · llava-next-13b",
    ]


def test_the_page_draws_them_and_says_them() -> None:
    text = page(at_batches(50, 80, 130))
    assert "Speed-up against batch" in text and "wins at batch 1, 2 and loses at 4" in text
    assert "Speed-up against" not in page([make_record("fastv")])
