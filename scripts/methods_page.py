"""docs/methods.md from the classes: what each method is, where it works, and what it takes."""

from __future__ import annotations

from tokprof import methods, policies
from tokprof.units import number

HEAD = """# Methods

Generated from the classes in `tokprof/policies/`; `tokprof methods NAME` prints the same. *d*: data decides how many
tokens stay, so a run waits for the device. *t*: the answers mean something only with weights trained with the method;
the cost does not depend on them.

`keep` is not the same share in every paper. Each method says below what it is a share of, and every table shows the
observed layer mean beside it; `--match layer-mean|flops|kv-bytes` gives all methods one budget.
"""


def methods_page() -> str:
    names = policies.names()
    found = [methods.facts(name) for name in names]
    rows = ["| method | acts | default keep | | paper |", "| --- | --- | --- | --- | --- |"]
    for facts in found:
        marks = " ".join(mark for mark, holds in (("d", facts.data_decided), ("t", facts.training_based)) if holds)
        link = f"[{facts.name}](#{facts.name})"
        rows.append(f"| {link} | {facts.acts} | {number(facts.keep)} | {marks} | {facts.paper} |")
    parts = [HEAD, "\n".join(rows), "\n## What works where\n", _matrix(names)]
    for facts in found:
        parameters = ", ".join(f"`{name}={value}`" for name, value in facts.parameters.items())
        needs = ", ".join(facts.needs).lower().replace("_", " ") or "nothing"
        parts.append(f"\n## {facts.name}\n\n{facts.description}\n\nNeeds: {needs}. Parameters: {parameters}.")
    return "\n".join(parts) + "\n"


def _matrix(names: list[str]) -> str:
    verdicts = methods.matrix(names)
    families = list(methods.families())
    rows = [f"| method | {' | '.join(families)} |", f"| --- |{' --- |' * len(families)}"]
    reasons: dict[str, int] = {}
    for name, fits in verdicts.items():
        cells = []
        for family in families:
            fit = fits[family]
            notes = [str(reasons.setdefault(reason, len(reasons) + 1)) for reason in fit.reasons]
            cells.append(fit.verdict + (f" ({', '.join(notes)})" if notes else ""))
        rows.append(f"| {name} | {' | '.join(cells)} |")
    listed = "\n".join(f"{index}. {reason}" for reason, index in reasons.items())
    return "\n".join(rows) + "\n\nReasons:\n\n" + listed
