"""What the gate has to say: findings, and one answer for the exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Answer = Literal["pass", "regressed", "ambiguous", "incomparable"]

EXIT_CODES: dict[Answer, int] = {"pass": 0, "regressed": 1, "ambiguous": 3, "incomparable": 3}
WORST_FIRST: tuple[Answer, ...] = ("regressed", "incomparable", "ambiguous", "pass")


@dataclass(frozen=True)
class Finding:
    """One quantity of one cell: as it was, as it is, and what follows."""

    tier: Literal[1, 2]
    cell: str
    metric: str
    answer: Answer
    before: str = ""
    after: str = ""
    detail: str = ""

    @property
    def key(self) -> tuple[int, str, str]:
        return self.tier, self.cell, self.metric


@dataclass(frozen=True)
class Outcome:
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def answer(self) -> Answer:
        """The worst finding's. A gate that looked at nothing has not passed."""
        found = {finding.answer for finding in self.findings}
        return next((answer for answer in WORST_FIRST if answer in found), "incomparable")

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.answer]

    @property
    def wants_second_look(self) -> bool:
        return any(finding.answer in ("regressed", "ambiguous") for finding in self.findings)


def confirmed(first: Outcome, second: Outcome) -> Outcome:
    """Regressed only what regressed twice; what was unclear at first may still pass."""
    again = {finding.key: finding for finding in second.findings}
    return Outcome(
        tuple(_settled(finding, again.get(finding.key)) for finding in first.findings),
        tuple(dict.fromkeys((*first.notes, *second.notes))),
    )


def _settled(first: Finding, second: Finding | None) -> Finding:
    if second is None or first.answer in ("pass", "incomparable"):
        return first
    if first.answer == second.answer == "regressed":
        return replace(second, detail=f"{second.detail}, twice".lstrip(", "))
    if first.answer == "ambiguous" and second.answer == "pass":
        return second
    return replace(
        second,
        answer="ambiguous",
        detail=f"{first.answer} at first, then {second.answer}: {second.detail}".rstrip(": "),
    )


def joined(outcomes: Iterable[Outcome]) -> Outcome:
    outcomes = list(outcomes)
    return Outcome(
        tuple(finding for outcome in outcomes for finding in outcome.findings),
        tuple(dict.fromkeys(note for outcome in outcomes for note in outcome.notes)),
    )
