"""Comparing two results."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.records import make_environment, make_record
from tests.report.golden import same_as_golden
from tokprof.cli import build_app
from tokprof.errors import InputError, RecordError, TokprofError
from tokprof.recipe import Setting, Workload
from tokprof.record import RunRecord, write_records
from tokprof.report.comparable import differences, identity, paired, read_any
from tokprof.report.compare import Comparison, compare
from tokprof.report.compare_table import markdown, render


def verdicts(found: Comparison) -> dict[str, str]:
    return {line.metric: line.verdict for line in found.lines}


def test_the_same_measured_twice_is_the_same() -> None:
    found = compare(make_record(seed=1), make_record(seed=50))
    assert found.verdict == "SAME"
    assert {line.verdict for line in found.lines} == {"SAME"}
    assert "request ÷ dense" in verdicts(found) and "FLOPs" in verdicts(found)


def test_slower_and_faster() -> None:
    slow = compare(make_record(policy_ms=50, seed=1), make_record(policy_ms=60, seed=9))
    assert verdicts(slow)["request"] == verdicts(slow)["request ÷ dense"] == "SLOW"
    assert verdicts(slow)["dense request"] == "SAME"
    line = slow.lines[0]
    assert line.interval is not None and line.interval.low < 1.2 < line.interval.high
    assert compare(make_record(policy_ms=60), make_record(policy_ms=50)).verdict == "FAST"


def test_noise_hides_a_difference() -> None:
    assert compare(make_record(noise=0.2), make_record(policy_ms=53, noise=0.2, seed=9)).verdict == "AMBIGUOUS"


def test_counts_are_exact() -> None:
    found = verdicts(compare(make_record(keep=0.25), make_record(keep=0.1), force=True))
    assert found["mean tokens"] == found["FLOPs"] == found["KV cache"] == "LESS"
    assert found["host syncs"] == "SAME"


def test_a_drifting_baseline_makes_times_ambiguous() -> None:
    drifted = make_record(baseline_again_ms=[110.0, 111.0, 110.5, 110.2, 111.1])
    found = compare(make_record(), drifted)
    assert found.verdict == "AMBIGUOUS"
    assert found.remarks and "after: the dense model drifted" in found.remarks[0]


@pytest.mark.parametrize(
    "other,field",
    [
        (make_record(environment=make_environment("NVIDIA A100 (made up)")), "device"),
        (make_record(environment=make_environment(driver="580.2")), "driver"),
        (make_record(method="todre"), "method"),
        (make_record(keep=0.5), "parameters"),
        (make_record(model="llava-1.5-7b"), "model"),
        (make_record(workload=Workload(batch=4)), "batch"),
    ],
)
def test_incomparable_names_the_field(other: RunRecord, field: str) -> None:
    found = compare(make_record(), other)
    assert found.verdict == "INCOMPARABLE" and not found.lines
    assert field in [difference.field for difference in found.differs]
    assert compare(make_record(), other, force=True).lines


def test_minor_driver_versions_do_not_matter() -> None:
    assert differences(make_record(), make_record(environment=make_environment(driver="570.9"))) == ()


def test_records_pair_by_their_question_wherever_they_ran() -> None:
    here = [make_record(keep=0.1), make_record(keep=0.25)]
    there = [make_record(keep=0.25, setting=Setting(device="cpu", dtype="bfloat16")), make_record(keep=0.5)]
    pairs, gone, new = paired(here, there)
    assert [(first.policy.parameters["keep"], second.policy.parameters["keep"]) for first, second in pairs] == [
        (0.25, 0.25)
    ]
    assert [record.policy.parameters["keep"] for record in (*gone, *new)] == [0.1, 0.5]
    assert identity(here[0]) != identity(here[1])


def test_samples_that_are_no_times_are_left_out_not_judged() -> None:
    broken = make_record(noise=0.0, policy_ms=0.0)
    assert "request" not in verdicts(compare(make_record(), broken))
    assert compare(make_record(), broken).verdict == "AMBIGUOUS"


def test_a_folder_of_results(tmp_path: Path) -> None:
    write_records(tmp_path / "a" / "one.json", [make_record()])
    write_records(tmp_path / "a" / "two.json", [make_record(keep=0.1)])
    (tmp_path / "a" / "notes.json").write_text("[]")
    assert len(read_any(tmp_path / "a")) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match="no result files"):
        read_any(tmp_path / "empty")


def test_table_and_markdown_as_they_were_looked_at() -> None:
    found = [
        compare(make_record(seed=1), make_record(policy_ms=56, seed=9)),
        compare(make_record(), make_record(environment=make_environment("NVIDIA A100 (made up)"))),
    ]
    console = Console(width=80, no_color=True)
    with console.capture() as shown:
        console.print(render(found, gone=[make_record(keep=0.1)]))
    same_as_golden("compare.txt", "\n".join(line.rstrip() for line in shown.get().splitlines()) + "\n")
    same_as_golden("compare.md", markdown(found, gone=[make_record(keep=0.1)]))


def test_command(tmp_path: Path) -> None:
    write_records(tmp_path / "a.json", [make_record()])
    write_records(tmp_path / "b.json", [make_record(policy_ms=70, seed=5)])
    done = CliRunner().invoke(build_app(), ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert done.exit_code == 0 and "SLOW" in done.output
    bad = CliRunner().invoke(build_app(), ["compare", str(tmp_path / "a.json"), str(tmp_path / "none.json")])
    assert isinstance(bad.exception, RecordError)
    odd = CliRunner().invoke(
        build_app(), ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--format", "html"]
    )
    assert isinstance(odd.exception, InputError)


def test_hostile_names_stay_text_in_markdown() -> None:
    hostile = make_record("<script>|\n# x")
    text = markdown([compare(hostile, hostile)], gone=[hostile])
    assert "<script>" not in text and "\n# x" not in text and "\\|" in text


def test_comparing_mistakes(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "folder").mkdir()
    write_records(tmp_path / "a.json", [make_record()])
    write_records(tmp_path / "none.json", [])
    write_records(tmp_path / "other.json", [make_record("todre"), make_record("vtw")])
    for other, words in (
        ("empty.json", "not JSON"),
        ("folder", "no result files"),
        ("none.json", "no record of the same question"),
        ("other.json", "no record of the same question"),
        ("gone.json", "no file"),
    ):
        done = CliRunner().invoke(build_app(), ["compare", str(tmp_path / "a.json"), str(tmp_path / other)])
        assert isinstance(done.exception, TokprofError) and words in done.exception.message, done.output
        assert done.exception.exit_code == 2 and done.exception.hint
