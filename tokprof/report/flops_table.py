"""FLOPs, bytes and formulas as tables for the terminal. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from tokprof import units
from tokprof.flops.analytic import PARTS, Work, count
from tokprof.flops.planning import Case
from tokprof.flops.traffic import stage_bytes, storage
from tokprof.report.stacked import Stacked
from tokprof.shapes import ModelShape

TITLES = {
    "todre": "todre: multiply–accumulates, T(4nd² + 2n²d + 2ndm) over the whole sequence (ToDRE eq. 1, 2)",
    "hidivdrop": "hidivdrop: multiply–accumulates, Σ(4nd² + 2n²d + 3ndm) over visual tokens in the decoder",
    "exact": "exact: FLOPs, 2 per multiply–accumulate, of what the engine runs",
}
BYTES_PER_VALUE = 2  # bfloat16
SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1.0, ""))


def about(cases: Sequence[Case]) -> Text:
    """Model and prompt in one line."""
    asked = cases[0].asked
    scene = asked.scene
    batch = f", batch {scene.batch}" if scene.batch > 1 else ""
    return Text(
        f"{scene.model.name} · {scene.layout.count:,} visual + {scene.text:,} text tokens "
        f"({scene.text_after:,} behind the first visual one) → {asked.new_tokens:,} new{batch} · "
        f"attention {asked.causal}, head on {'the last position' if asked.head == 'last' else 'all positions'}"
    )


def parts(convention: str, cases: Sequence[Case]) -> Iterator[RenderableType]:
    """One convention: methods below each other, parts side by side; the dense model comes first."""
    works = [count(convention, case.asked) for case in cases]
    size, prefix = next(step for step in SCALES if works[0].total >= step[0] or step[0] == 1.0)
    unit = works[0].unit
    other, factor = ("FLOP", 2.0) if unit == "MAC" else ("MAC", 0.5)
    shown = [part for part in PARTS if part in works[0].parts]
    yield Text(TITLES[convention], style="bold")
    table = Stacked("method", [*shown, f"total, {prefix}{unit}", f"{prefix}{other}", "dense ÷"])
    for case, work in zip(cases, works, strict=True):
        cells = [units.number(work.parts[part] / size) for part in shown]
        least = count(convention, case.least).total if case.least else None
        total = units.number(work.total / size) if least is None else _range(least / size, work.total / size)
        ratio = works[0].total / work.total
        most = f" … {works[0].total / least:.2f}×" if least else ""
        table.add(case.label, *cells, total, units.number(factor * work.total / size), units.ratio(ratio) + most)
    yield table
    yield Text("")


def _range(low: float, high: float) -> str:
    return f"{units.number(low)} … {units.number(high)}"


def memory(cases: Sequence[Case]) -> Iterator[RenderableType]:
    """What lies in memory, what moves, and FLOPs per byte."""
    yield Text("bytes at 16 bits per value (least traffic with fused attention)", style="bold")
    titles = ("layer mean", "KV cache", "activations", "prefill moves", "FLOP/byte", "step moves", "FLOP/byte")
    table = Stacked("method", titles)
    for case in cases:
        held, moved = storage(case.asked, BYTES_PER_VALUE), stage_bytes(case.asked, BYTES_PER_VALUE)
        exact = count("exact", case.asked).parts
        steps, step = case.asked.steps, moved.get("first_decode", 0)
        per_step = (exact["decode"] + exact["head"]) / max(steps, 1)
        table.add(
            case.label,
            units.count(round(case.asked.plan.layer_mean, 1)),
            units.bytes_(held.kv_cache),
            units.bytes_(held.activations),
            units.bytes_(moved["prefill"]),
            units.number(exact["prefill"] / moved["prefill"]),
            units.bytes_(step) if step else units.MISSING,
            units.number(per_step / step) if step else units.MISSING,
        )
    yield table
    weights = storage(cases[0].asked, BYTES_PER_VALUE).weights
    yield Text(f"weights {units.bytes_(weights)}; activations are an estimate of the widest layer", style="dim")
    yield Text("")


def compared(cases: Sequence[Case]) -> Iterator[RenderableType]:
    """One line per method: what is left of the dense request, by each convention."""
    works = {name: [count(name, case.asked) for case in cases] for name in TITLES}
    table = Stacked(
        "method",
        ["entering", "layer mean", "exact", "exact ÷", "prefill ÷", "todre ÷", "hidivdrop ÷", "KV ÷", "decides"],
    )
    caches = [storage(case.asked, BYTES_PER_VALUE).kv_cache for case in cases]
    for index, case in enumerate(cases):
        ratios = {name: found[0].total / found[index].total for name, found in works.items()}
        exact = works["exact"]
        prefill = exact[0].parts["prefill"] / exact[index].parts["prefill"]
        table.add(
            case.label,
            units.count(next((tokens for tokens in case.asked.plan.layers if tokens), 0)),
            units.count(round(case.asked.plan.layer_mean, 1)),
            units.operations(exact[index].total),
            *(units.ratio(value) for value in (ratios["exact"], prefill, ratios["todre"], ratios["hidivdrop"])),
            units.ratio(caches[0] / caches[index]),
            "the data" if case.least else "the plan",
        )
    yield table
    if any(case.least for case in cases):
        yield Text("where the data decides, this is the most it can cost", style="dim")
    yield Text("")


def per_layer(case: Case, convention: str) -> Iterator[RenderableType]:
    """Tokens and work of every decoder layer; equal neighbours in one line."""
    work = count(convention, case.asked)
    yield Text(f"{case.label}, layer by layer ({convention})", style="bold")
    titles = ("layers", "visual", "text", f"{work.unit} per layer", f"{work.unit} together")
    table = Stacked("decoder layers", titles)
    for (visual, macs), span in _runs(zip(case.asked.plan.layers, work.layers, strict=True)):
        name = f"{span[0]}" if len(span) == 1 else f"{span[0]}–{span[-1]}"
        table.add(
            name,
            str(len(span)),
            units.count(visual),
            units.count(case.asked.scene.text),
            units.operations(macs, work.unit),
            units.operations(macs * len(span), work.unit),
        )
    yield table
    yield Text("")


def _runs(values: Iterable[Any]) -> Iterator[tuple[Any, list[int]]]:
    for value, run in groupby(enumerate(values), key=lambda pair: pair[1]):
        yield value, [index for index, _ in run]


def formulas(case: Case, convention: str) -> Iterator[RenderableType]:
    """Each convention's formula with this request's numbers put in."""
    asked, decoder = case.asked, case.asked.scene.model.decoder
    work = count(convention, asked)
    yield Text(f"{case.label}, by {TITLES[convention]}", style="bold")
    for index, lengths in enumerate(asked.passes if convention != "hidivdrop" else [asked.visual]):
        read = asked.compress if index else 0  # a second pass also reads what the first one compressed
        for n, span in _runs(lengths):
            term = _exact_term(case, n, read) if convention == "exact" else _paper_term(case, n, convention)
            yield Text(f"  prefill, layers {span[0]}–{span[-1]}: {len(span)} · {term}")
    if convention == "exact":
        yield Text(f"  weights of a layer: {_layer_words(asked.scene.model)} = {decoder.layer_parameters:,}")
    yield from (Text(f"  {line}") for line in _other_parts(case, convention, work))
    times = f" · batch {asked.scene.batch}" if asked.scene.batch > 1 else ""
    yield Text(f"  total{times}: {units.operations(work.total, work.unit)}")
    yield Text("")


def _exact_term(case: Case, n: int, read: int) -> str:
    decoder = case.asked.scene.model.decoder
    square = f"{n} · {n + 1} / 2" if case.asked.causal == "half" and not read else f"{n} · {n + read}"
    return f"2 · ({n} · {decoder.layer_parameters:,} + 2 · {decoder.query_width} · {square})"


def _paper_term(case: Case, n: int, convention: str) -> str:
    d, m = case.asked.scene.model.decoder.width, case.asked.scene.model.decoder.ffn
    matrices = 2 if convention == "todre" else 3
    return f"(4·{n}·{d}² + 2·{n}²·{d} + {matrices}·{n}·{d}·{m})"


def _layer_words(model: ModelShape) -> str:
    decoder = model.decoder
    return (
        f"2 · {decoder.width} · {decoder.query_width} (q, o) + 2 · {decoder.width} · {decoder.kv_width} (k, v) "
        f"+ {decoder.ffn_matrices} · {decoder.width} · {decoder.ffn} (feed-forward)"
    )


def _other_parts(case: Case, convention: str, work: Work) -> Iterator[str]:
    asked, vision = case.asked, case.asked.scene.model.vision
    decoder, outputs = asked.scene.model.decoder, asked.new_tokens
    notes = {
        "vision": f"{vision.layers_run if convention == 'exact' else vision.depth} blocks of width {vision.width}, "
        f"{asked.scene.layout.tower_passes} tower passes",
        "projector": " + ".join(f"{inputs}·{outputs_}" for inputs, outputs_ in asked.scene.model.projector)
        + " per token",
        "selection": ", ".join(_costs(case)) or "nothing",
        "decode": f"{asked.steps} steps over each layer's cache"
        if convention == "exact"
        else f"eq. 2 with L = {outputs}: 4Ld² + 2Ldm + dL(2n + L − 1) in each layer",
        "head": f"{decoder.width}·{decoder.vocab} per position",
    }
    for part, note in notes.items():
        if part in work.parts:
            yield f"{part}: {units.operations(work.parts[part], work.unit)} ({note})"


def _costs(case: Case) -> list[str]:
    policy, scene = case.policy, case.asked.scene
    costs = [] if policy.identity else policy.costs(scene.seen_by(policy))
    beside = len(case.asked.plan.side_layers)
    layers = [f"{beside} more decoder layers beside the model's own"] if beside else []
    return [*layers, *(f"{cost.name} {units.operations(2 * cost.macs)}" for cost in costs)]


def as_data(case: Case) -> dict[str, Any]:
    """The same numbers for programs."""
    works = {name: count(name, case.asked) for name in TITLES}
    held = storage(case.asked, BYTES_PER_VALUE)
    return {
        "method": case.policy.name,
        "parameters": {} if case.policy.identity else case.policy.parameters(),
        "layers": list(case.asked.plan.layers),
        "layers_least": list(case.least.plan.layers) if case.least else None,
        "layer_mean": case.asked.plan.layer_mean,
        "flops": {
            name: {"unit": work.unit, "total": work.total, "parts": dict(work.parts), "layers": list(work.layers)}
            for name, work in works.items()
        },
        "bytes": {
            "bytes_per_value": BYTES_PER_VALUE,
            "weights": held.weights,
            "kv_cache": held.kv_cache,
            "activations": held.activations,
            "moved": stage_bytes(case.asked, BYTES_PER_VALUE),
        },
    }
