"""FLOPs, bytes and formulas as tables for the terminal. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from math import inf
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from tokprof import units
from tokprof.flops.analytic import PARTS, Request, Work, count, prefill_flops, step_flops
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
    dense = count(convention, cases[0].asked)
    size, prefix = next(step for step in SCALES if dense.total >= step[0] or step[0] == 1.0)
    unit = dense.unit
    other, factor = ("FLOP", 2.0) if unit == "MAC" else ("MAC", 0.5)
    shown = [part for part in PARTS if part in dense.parts]
    yield Text(TITLES[convention], style="bold")
    table = Stacked("method", [*shown, f"total, {prefix}{unit}", f"{prefix}{other}", "dense ÷"])
    for case in cases:
        least, most = (count(convention, asked) for asked in case.bounds)
        table.add(
            case.label,
            *(_between(units.number, least.parts[part] / size, most.parts[part] / size) for part in shown),
            _between(units.number, least.total / size, most.total / size),
            _between(units.number, factor * least.total / size, factor * most.total / size),
            _between(units.ratio, *(_times(dense.total, work.total) for work in (least, most))),
        )
    yield table
    yield Text("")


def _between(show: Callable[[float], str], *values: float) -> str:
    """One figure, or the range from the smallest to the largest where data decide."""
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low} … {high}"


def memory(cases: Sequence[Case]) -> Iterator[RenderableType]:
    """What lies in memory, what moves, and FLOPs per byte."""
    yield Text("bytes at 16 bits per value (least traffic with fused attention)", style="bold")
    titles = ("layer mean", "KV cache", "activations", "prefill moves", "FLOP/byte", "step moves", "FLOP/byte")
    table = Stacked("method", titles)
    for case in cases:
        table.add(case.label, *_memory_cells(case.bounds))
    yield table
    weights = storage(cases[0].asked, BYTES_PER_VALUE).weights
    yield Text(f"weights {units.bytes_(weights)}; activations are an estimate of the widest layer", style="dim")
    yield Text("")


def _memory_cells(bounds: Sequence[Request]) -> Iterator[str]:
    held = [storage(asked, BYTES_PER_VALUE) for asked in bounds]
    moved = [stage_bytes(asked, BYTES_PER_VALUE) for asked in bounds]
    flops = [prefill_flops(asked) for asked in bounds]
    yield _between(_tokens, *(asked.plan.layer_mean for asked in bounds))
    yield _between(units.bytes_, *(found.kv_cache for found in held))
    yield _between(units.bytes_, *(found.activations for found in held))
    yield _between(units.bytes_, *(found["prefill"] for found in moved))
    yield _between(units.number, *(done / found["prefill"] for done, found in zip(flops, moved, strict=True)))
    steps = [found["first_decode"] for found in moved if "first_decode" in found]
    per_byte = [step_flops(asked) / step for asked, step in zip(bounds, steps, strict=False)]
    yield _between(units.bytes_, *steps) if steps else units.MISSING
    yield _between(units.number, *per_byte) if steps else units.MISSING


def _tokens(layer_mean: float) -> str:
    return units.count(round(layer_mean, 1))


def compared(cases: Sequence[Case]) -> Iterator[RenderableType]:
    """One line per method: what is left of the dense request, by each convention."""
    table = Stacked(
        "method",
        ["entering", "layer mean", "exact", "exact ÷", "prefill ÷", "todre ÷", "hidivdrop ÷", "KV ÷", "decides"],
    )
    dense = _sizes(cases[0].asked)
    for case in cases:
        sizes = [_sizes(asked) for asked in case.bounds]
        table.add(
            case.label,
            units.count(next((tokens for tokens in case.asked.plan.layers if tokens), 0)),
            _between(_tokens, *(asked.plan.layer_mean for asked in case.bounds)),
            _between(units.operations, *(size["exact"] for size in sizes)),
            *(_between(units.ratio, *(_times(dense[name], size[name]) for size in sizes)) for name in dense),
            "the data" if case.least else "the plan",
        )
    yield table
    if any(case.least for case in cases):
        yield Text("a … b: the data decide, and the plan bounds what they can", style="dim")
    yield Text("")


def _sizes(asked: Request) -> dict[str, int]:
    """What a method shrinks, in the order of `compared`'s columns."""
    exact = count("exact", asked)
    return {
        "exact": exact.total,
        "prefill": exact.parts["prefill"],
        "todre": count("todre", asked).total,
        "hidivdrop": count("hidivdrop", asked).total,
        "kv": storage(asked, BYTES_PER_VALUE).kv_cache,
    }


def _times(dense: int, left: int) -> float:
    return dense / left if left else inf


def per_layer(case: Case, convention: str) -> Iterator[RenderableType]:
    """Tokens and work of every decoder layer; equal neighbours in one line."""
    work = count(convention, case.asked)
    yield Text(f"{_at_most(case)}, layer by layer ({convention})", style="bold")
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


def _at_most(case: Case) -> str:
    """The method's name, with a word where data decide and what follows is the most they can make of it."""
    return f"{case.label} at most" if case.least else case.label


def _runs(values: Iterable[Any]) -> Iterator[tuple[Any, list[int]]]:
    for value, run in groupby(enumerate(values), key=lambda pair: pair[1]):
        yield value, [index for index, _ in run]


def formulas(case: Case, convention: str) -> Iterator[RenderableType]:
    """Each convention's formula with this request's numbers put in."""
    asked, decoder = case.asked, case.asked.scene.model.decoder
    work = count(convention, asked)
    yield Text(f"{_at_most(case)}, by {TITLES[convention]}", style="bold")
    for index, lengths in enumerate(asked.passes if convention != "hidivdrop" else [asked.visual]):
        read = asked.compress if index else 0  # a second pass also reads what the first one compressed
        for n, span in _runs(lengths):
            term = _exact_term(case, n, read) if convention == "exact" else _paper_term(case, n, convention)
            yield Text(f"  prefill, layers {span[0]}–{span[-1]}: {len(span)} · {term}")
    if convention == "exact":
        yield Text(f"  weights of a layer: {_layer_words(asked.scene.model)} = {decoder.layer_parameters:,}")
    yield from (Text(f"  {line}") for line in _other_parts(case, convention, work))
    times = f" · batch {asked.scene.batch}" if asked.scene.batch > 1 else ""
    total = units.operations(work.total, work.unit)
    if case.least:
        least = units.operations(count(convention, case.least).total, work.unit)
        total = f"at most {total}, at least {least}: the data decide"
    yield Text(f"  total{times}: {total}")
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
        f"{units.counted(asked.scene.layout.tower_passes, 'tower pass', 'tower passes')}",
        "projector": " + ".join(f"{inputs}·{outputs_}" for inputs, outputs_ in asked.scene.model.projector)
        + " per token",
        "selection": ", ".join(_costs(case)) or "nothing",
        "decode": f"{units.counted(asked.steps, 'step')} over each layer's cache"
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
    more = units.counted(beside, "more decoder layer")
    layers = [f"{more} beside the model's own"] if beside else []
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
            name: {
                "unit": work.unit,
                "total": work.total,
                "total_least": count(name, case.least).total if case.least else None,
                "parts": dict(work.parts),
                "layers": list(work.layers),
            }
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
