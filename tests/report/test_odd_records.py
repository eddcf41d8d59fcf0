"""Records that are valid and odd: every writer says what it can and none falls over."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.records import make_environment, make_record, make_samples
from tokprof.recipe import Workload
from tokprof.record import RunRecord, Samples
from tokprof.report.export import FORMATS, export
from tokprof.report.figures import draw
from tokprof.report.html import page
from tokprof.report.table import render


def with_samples(dense: Samples | None, policy: Samples) -> RunRecord:
    record = make_record("fastv")
    sides = {"policy": record.policy.model_copy(update={"samples": policy})}
    if dense is not None:
        sides["baseline"] = record.baseline.model_copy(update={"samples": dense})
    return record.model_copy(update=sides)


ZERO, NONE, ONE = make_samples(0.0), Samples(stages={}), make_samples(stages={"prefill": 3.0}, rounds=1)
ODD = {
    "a method that takes no time": with_samples(None, ZERO),
    "no time at all": with_samples(ZERO, ZERO),
    "no samples": with_samples(NONE, NONE),
    "one stage, one round": with_samples(ONE, ONE),
    "one new token": make_record("fastv", workload=Workload(new_tokens=1)),  # type: ignore[call-arg]
    "no visual tokens": make_record("fastv", per_layer=[0], depth=1, visual=0),
    "enormous": make_record("fastv", visual=10**9, policy_ms=1e9, dense_ms=1e-6),
    "the dense model itself": make_record("dense"),
    "a CPU": make_record("fastv", environment=make_environment("CPU")),
}


@pytest.mark.parametrize("name", ODD)
def test_written_without_falling_over(name: str) -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(render([ODD[name]], width=80))
    assert "dense" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "dense" in page([ODD[name]])
    for form in FORMATS:
        text = export([ODD[name]], form)
        assert "dense" in text and "nan" not in text.lower().replace("nanosecond", "")


@pytest.mark.parametrize("name", ["no samples", "enormous"])
def test_drawn_without_falling_over(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw([ODD[name]], tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size > 1000
