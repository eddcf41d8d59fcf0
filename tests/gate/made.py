"""What the gate's tests share: a baseline, measuring functions by script, and short ways to ask an outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.records import make_record
from tokprof.gate.outcome import Finding, Outcome
from tokprof.measure.apart import Place
from tokprof.recipe import Cell
from tokprof.record import RunRecord

BASE = make_record(seed=100)


def with_arm(record: RunRecord, **changes: Any) -> RunRecord:
    return record.model_copy(update={"policy": record.policy.model_copy(update=changes)})


def answers(outcome: Outcome) -> dict[str, str]:
    return {finding.metric: finding.answer for finding in outcome.findings}


def said(outcome: Outcome, metric: str) -> Finding:
    return next(finding for finding in outcome.findings if finding.metric == metric)


def scripted(*results: RunRecord) -> tuple[Callable[..., list[RunRecord]], list[Any]]:
    """A measuring function that hands out these records one after the other."""
    left, asked = list(results), []

    def measure(cells: Sequence[Cell], place: Place | None) -> list[RunRecord]:
        asked.append(place)
        return [left.pop(0)]

    return measure, asked


def quiet(said: str) -> None:
    pass
