"""The gate's outcome for people, for pull requests and for machines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokprof.atomic import write_text_atomically
from tokprof.errors import InputError
from tokprof.gate.outcome import WORST_FIRST, Finding, Outcome
from tokprof.report.compare_table import escaped

HEADER = ("metric", "baseline", "head", "answer", "")
STYLES = {"pass": "green", "regressed": "red", "ambiguous": "yellow", "incomparable": "yellow"}
MEANING = {
    "pass": "nothing got worse",
    "regressed": "something got worse, and did so twice",
    "ambiguous": "noise hides the answer",
    "incomparable": "baseline and head cannot be set side by side",
}


def by_cell(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    cells: dict[str, list[Finding]] = {}
    for finding in findings:
        cells.setdefault(finding.cell, []).append(finding)
    return cells


def headline(outcome: Outcome) -> str:
    counts = [(answer, sum(found.answer == answer for found in outcome.findings)) for answer in WORST_FIRST]
    listed = ", ".join(f"{count} {answer}" for answer, count in counts if count) or "nothing compared"
    return f"{outcome.answer}: {MEANING[outcome.answer]} ({listed})"


def remedies(outcome: Outcome) -> Iterator[str]:
    if any(found.tier == 1 and found.answer == "regressed" for found in outcome.findings):
        yield "where a count was meant to change, renew the baseline: tokprof check --init --yes"
    if any(found.tier == 2 and found.answer == "ambiguous" for found in outcome.findings):
        yield "for clearer times: a quieter machine, more --rounds, or tokprof check --calibrate"


def render(outcome: Outcome) -> RenderableType:
    """What did not pass, in full; what passed, by name."""
    blocks: list[RenderableType] = []
    for cell, findings in by_cell(outcome.findings).items():
        blocks.append(Text(cell, style="bold"))
        bad = [found for found in findings if found.answer != "pass"]
        if bad:
            blocks.append(_table(bad))
        passed = [found.metric for found in findings if found.answer == "pass"]
        if passed:
            blocks.append(Text(f"passed: {', '.join(passed)}\n"))
    blocks += [Text(f"note: {note}") for note in (*outcome.notes, *remedies(outcome))]
    blocks.append(Text(headline(outcome), style=f"bold {STYLES[outcome.answer]}"))
    return Group(*blocks)


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in HEADER:
        table.add_column(name, overflow="fold")
    for found in findings:
        answer = Text(found.answer, style=STYLES[found.answer])
        table.add_row(found.metric, found.before, found.after, answer, found.detail)
    return table


def markdown(outcome: Outcome) -> str:
    """For the summary of a GitHub job; what passed is folded away."""
    parts = [f"## tokprof check: {outcome.answer}", "", headline(outcome), ""]
    bad = [found for found in outcome.findings if found.answer != "pass"]
    for cell, findings in by_cell(bad).items():
        parts += [f"**{escaped(cell)}**", "", *_rows(findings), ""]
    passed = [found for found in outcome.findings if found.answer == "pass"]
    if passed:
        parts += [f"<details><summary>{len(passed)} passed</summary>", ""]
        for cell, findings in by_cell(passed).items():
            parts += [f"**{escaped(cell)}**", "", *_rows(findings), ""]
        parts += ["</details>", ""]
    parts += [f"> {escaped(note)}\n" for note in (*outcome.notes, *remedies(outcome))]
    return "\n".join(parts).rstrip() + "\n"


def _rows(findings: Sequence[Finding]) -> list[str]:
    rows = ["| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|"]
    for found in findings:
        cells = (found.metric, found.before, found.after, found.answer, found.detail)
        rows.append("| " + " | ".join(escaped(cell) for cell in cells) + " |")
    return rows


def junit(outcome: Outcome) -> str:
    """One test case per finding. Regressed is a failure; what could not be decided is an error."""
    suite = ElementTree.Element(
        "testsuite",
        name="tokprof check",
        tests=str(len(outcome.findings)),
        failures=str(sum(found.answer == "regressed" for found in outcome.findings)),
        errors=str(sum(found.answer in ("ambiguous", "incomparable") for found in outcome.findings)),
    )
    for found in outcome.findings:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_printable(found.cell), name=_printable(f"tier {found.tier}: {found.metric}")
        )
        said = _printable(f"{found.before} → {found.after} {found.detail}".strip())
        if found.answer == "pass":
            ElementTree.SubElement(case, "system-out").text = said
        else:
            kind = "failure" if found.answer == "regressed" else "error"
            ElementTree.SubElement(case, kind, message=said, type=found.answer)
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def _printable(text: str) -> str:
    """XML has no place for control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def check_summary() -> None:
    """Whether the job's summary can be written, before anything is measured."""
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary and Path(summary).is_dir():
        raise InputError(f"cannot write the job's summary {summary}: it is a folder", "check GITHUB_STEP_SUMMARY")


def write_outputs(outcome: Outcome, junit_file: Path | None) -> None:
    """JUnit where asked; the summary of a GitHub job where there is one."""
    if junit_file is not None:
        write_text_atomically(junit_file, junit(outcome))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(markdown(outcome))
        except OSError as error:
            raise InputError(
                f"cannot write the job's summary {summary}: {error.strerror}", "check GITHUB_STEP_SUMMARY"
            ) from error
