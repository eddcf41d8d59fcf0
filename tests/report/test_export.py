from __future__ import annotations

import csv
import io
import json

import pytest

from tests.records import make_record
from tests.report.golden import same_as_golden
from tokprof.errors import UnknownNameError
from tokprof.record import RecordFile, RunRecord
from tokprof.report import derived
from tokprof.report.columns import COLUMNS
from tokprof.report.export import export


def two() -> list[RunRecord]:
    return [make_record("todre", keep=0.1, policy_ms=40), make_record("random", policy_ms=99.8, warnings=["a | b"])]


@pytest.mark.parametrize(("form", "suffix"), [("markdown", "md"), ("csv", "csv"), ("latex", "tex")])
def test_exports_read_as_they_were_looked_at(form: str, suffix: str) -> None:
    same_as_golden(f"export.{suffix}", export(two(), form))


def test_json_is_a_result_file() -> None:
    assert RecordFile.model_validate_json(export(two(), "json")).records == tuple(two())
    assert json.loads(export(two(), "json"))["kind"] == "tokprof.records"


def test_csv_holds_the_derived_numbers_in_full() -> None:
    rows = list(csv.DictReader(io.StringIO(export(two(), "csv"))))
    assert [row["method"] for row in rows] == ["dense", "todre", "random"]
    for row, side in zip(rows, derived.sides(two()), strict=True):
        for column in COLUMNS:
            value = column.value(side)
            head = next(
                (
                    name
                    for name in row
                    if name.removesuffix("_tokens").removesuffix("_nat").removesuffix("_share") == column.key
                ),
                None,
            )
            if head is not None:
                assert row[head] == ("" if value is None else str(value))
    found = derived.speedup(two()[0])
    assert found is not None and float(rows[1]["speedup_low"]) == found.low


def test_latex_prints_the_change_as_the_papers_do() -> None:
    text = export(two(), "latex")
    todre = next(line for line in text.splitlines() if line.startswith("todre"))
    assert "\\downarrow" in todre and "\\uparrow" in todre and "\\%)" in todre
    dense = next(line for line in text.splitlines() if line.startswith("dense"))
    assert "arrow" not in dense


def test_names_cannot_break_out_of_a_format() -> None:
    record = make_record("fastv", model="a|b_<script>&{x}\n\\end", warnings=["50 % & more_"])
    assert "|b" not in export([record], "markdown").split("|:--|")[0].replace("\\|", "")
    assert "<script>" not in export([record], "markdown")
    assert [row["model"] for row in csv.DictReader(io.StringIO(export([record], "csv")))] == [record.model.name] * 2
    assert export([record], "latex").count("\n\\end{tabular}") == 1


def test_an_unknown_format_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError) as caught:
        export(two(), "markdwn")
    assert "markdown" in caught.value.hint
