"""docs/methods.md from the classes: what each method is, where it works, and what it takes."""

from __future__ import annotations

from model_card import Arm, DemoAccuracy, other_seed, shipped, table

from tokprof import methods, policies
from tokprof.units import number

HEAD = """# Methods

Generated from the classes in `tokprof/policies/`; `tokprof methods NAME` prints the same. *d*: data decides how many
tokens stay, so a run waits for the device. *t*: the answers mean something only with weights trained with the method;
the cost does not depend on them.

`keep` is not the same share in every paper. Each method says below what it is a share of, and every table shows the
observed layer mean beside it; `--match layer-mean|flops|kv-bytes` gives all methods one budget.
"""


ON_THE_DEMO = """
## On the demo model

Right answers on the demo's {asked:,} held-out questions (dense: {dense} %), every method at its usual budget and beside
its *twin*: tokens drawn by lot, as many, where and when the method drops them (`random like=METHOD`). These are
measurements of a tiny model on synthetic pictures, **not evidence about large ones**. *Points*: the method minus its
twin; *p*: McNemar's exact test on the same questions; *above* and *below* where p < 0.05. *Gains*, *loses*: the kinds
of questions with the largest differences. *Seed 1*: the points of the same model from another training seed
({other} questions): where the sign changes, the method's rank is an accident of training. The demo has eight layers:
where it refuses a usual budget, the first of 25 %, 33 % and 50 % that it accepts stands here. `python -m
benchmarks.demo_accuracy` measures it again; every answer is in `tokprof/demo/records/`.
"""

REASONS = """Not above their twins, and why, as far as the kinds of questions tell; these are readings of the
table, not experiments:"""
SEEN = "what stands out is kept and its surroundings are lost, by which this model counts and finds places"
# Why a method is no better than lots here: each that is not above needs its line.
NOT_ABOVE = {
    "avgpool": "a rival without a claim; pooling is gentle to large things and blurs small ones",
    "dycoke": "made for video: of a picture it drops nothing before the decoder, and neither does its twin. What is "
    "lost is lost by dropping from the cache while the second word of an answer is written",
    "fastervlm": f"the class token's attention finds the things, but {SEEN}",
    "globalcom2": f"as FasterVLM, with a budget per tile: {SEEN}",
    "hired": f"as FasterVLM, with a budget per tile: {SEEN}",
    "pdrop": "the last word's attention in the next layer ranks no better than lots at these stops of an eight-layer "
    "decoder, after which half of the layers still see much; places are read in late layers",
    "prumerge": "5.6 % of the tokens, picked by the class token and merged with what resembles them: training showed "
    "this model no merged tokens; its digits suffer first",
    "prumerge_plus": f"as PruMerge with more tokens, spread evenly: it gains in small things and loses, since {SEEN}",
    "sparsevlm": "the words that rate the picture point elsewhere in these weights, and training showed this model no "
    "merged tokens such as the recycled ones; the other seed's weights do better",
    "tome": "merges inside the tower what is alike, and so keeps more of small things; not enough for p < 0.05 here",
    "uniform": "a rival without a claim: a regular grid is as good as lots",
    "visiondrop": f"attention among visual tokens finds the things, but {SEEN}",
    "voco_llama": "its compression tokens are trained with the method, and these weights are not: the answers mean "
    "nothing",
    "vtw": "drops every token at one layer, and so does its twin: they are the same by construction",
}


def methods_page() -> str:
    names = policies.names()
    found = [methods.facts(name) for name in names]
    rows = ["| method | acts | default keep | | paper |", "| --- | --- | --- | --- | --- |"]
    for facts in found:
        marks = " ".join(mark for mark, holds in (("d", facts.data_decided), ("t", facts.training_based)) if holds)
        link = f"[{facts.name}](#{facts.name})"
        rows.append(f"| {link} | {facts.acts} | {number(facts.keep)} | {marks} | {facts.paper} |")
    parts = [HEAD, "\n".join(rows), "\n## What works where\n", _matrix(names), _on_the_demo()]
    for facts in found:
        parameters = ", ".join(f"`{name}={value}`" for name, value in facts.parameters.items())
        needs = ", ".join(facts.needs).lower().replace("_", " ") or "nothing"
        parts.append(f"\n## {facts.name}\n\n{facts.description}\n\nNeeds: {needs}. Parameters: {parameters}.")
    return "\n".join(parts) + "\n"


def _on_the_demo() -> str:
    record, other = shipped(), other_seed()
    twins_elsewhere = {arm.method: (arm, twin) for arm, twin in other.usual()}
    rows, notes = [], []
    for arm, twin in record.usual():
        cells = [f"[{arm.method}](#{arm.method})", number(arm.parameters["keep"]), f"{arm.layer_mean:.0f}"]
        cells.append(_percent(record, arm))
        if twin is None:
            rows.append([*cells, *[""] * 7])
            continue
        against, found = arm.against(twin), record.verdict(arm, twin)
        p = "< 0.001" if against.p < 0.001 else f"{against.p:.3f}"
        there, twin_there = twins_elsewhere[arm.method]
        elsewhere = f"{100 * there.against(twin_there).difference:+.1f}" if twin_there else ""
        beside = [_percent(record, twin), f"{100 * against.difference:+.1f}", p, found]
        rows.append([*cells, *beside, *_extremes(record, arm, twin), elsewhere])
        if found != "above":
            notes.append(f"- **{arm.method}** ({found}): {NOT_ABOVE.get(arm.method, 'not explained')}.")
    head = ["method", "keep", "tokens per layer", "%", "its twin, %", "points", "p", "beside its twin"]
    text = ON_THE_DEMO.format(
        asked=len(record.data["kinds"]), dense=_percent(record, record.dense), other=len(other.data["kinds"])
    )
    shown = table([*head, "gains", "loses", "seed 1, points"], rows)
    return f"{text}\n{shown}\n\nNot above their twins, and why as far as the kinds of questions tell:\n\n" + "\n".join(
        notes
    )


def _percent(record: DemoAccuracy, arm: Arm) -> str:
    return f"{100 * arm.share(record.chosen()).value:.1f}"


def _extremes(record: DemoAccuracy, arm: Arm, twin: Arm) -> tuple[str, str]:
    """The kinds of questions at which the method is farthest above and below its twin."""
    by_kind = {
        kind: 100 * (arm.share(record.chosen(kind)).value - twin.share(record.chosen(kind)).value)
        for kind in record.kinds
    }
    best, worst = max(by_kind, key=lambda kind: by_kind[kind]), min(by_kind, key=lambda kind: by_kind[kind])
    return (
        f"{best} {by_kind[best]:+.0f}" if by_kind[best] > 0 else "–",
        f"{worst} {by_kind[worst]:+.0f}" if by_kind[worst] < 0 else "–",
    )


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
