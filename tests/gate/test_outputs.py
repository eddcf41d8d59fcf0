"""The outcome for people, for pull requests and for machines."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.gate.made import BASE
from tests.records import make_record
from tests.report.golden import same_as_golden
from tokprof.errors import InputError
from tokprof.gate.outcome import Finding, Outcome
from tokprof.gate.outputs import junit, markdown, render, write_outputs
from tokprof.gate.verdicts import verdict

MIXED = verdict(
    [BASE, make_record("todre", seed=3), make_record("vtw")],
    [
        make_record(policy_ms=56, seed=7, per_layer=[2880] * 2 + [721] * 30),
        make_record("todre", noise=0.15, seed=9),
    ],
    tier=2,
)


def test_table_and_summary_as_they_were_looked_at() -> None:
    console = Console(width=110, no_color=True)
    with console.capture() as shown:
        console.print(render(MIXED))
    same_as_golden("gate.txt", "\n".join(line.rstrip() for line in shown.get().splitlines()) + "\n")
    same_as_golden("gate.md", markdown(MIXED))


def test_junit_has_one_case_per_finding() -> None:
    suite = ElementTree.fromstring(junit(MIXED))
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase")) == len(MIXED.findings)
    assert len(suite.findall("testcase/failure")) == int(suite.attrib["failures"]) > 0
    assert len(suite.findall("testcase/error")) == int(suite.attrib["errors"]) > 0


def test_hostile_names_stay_text() -> None:
    hostile = Outcome((Finding(1, "<script>|\x00\x1b", "a & b", "regressed", "]]>", "\n", "<"),), ("<b>",))
    assert ElementTree.fromstring(junit(hostile)).find("testcase") is not None
    assert "<script>" not in markdown(hostile) and "<b>" not in markdown(hostile)


def test_outputs_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("earlier\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    write_outputs(MIXED, tmp_path / "out" / "tokprof.xml")
    assert (tmp_path / "out" / "tokprof.xml").read_text().startswith("<?xml")
    assert summary.read_text().startswith("earlier\n## tokprof check: regressed")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    with pytest.raises(InputError, match="summary"):
        write_outputs(MIXED, None)
