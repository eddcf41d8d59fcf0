"""The page's charts, each from one group of records (one model, machine and workload)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tokprof import units
from tokprof.flops.roofline import Limits, StageRoof, limits, stages
from tokprof.record import REQUEST_STAGES, Arm
from tokprof.report import derived, gap
from tokprof.report.columns import Column, column
from tokprof.report.derived import Side
from tokprof.report.svg import TOP, Axis, Chart, colour, spanning
from tokprof.report.tradeoff import front

OUTPUT_LENGTHS = (1, 16, 128, 512)
SPEED_KEYS = ("speedup", "flops_ratio", "peak_bytes", "kv_bytes")
QUALITY_KEYS = ("accuracy", "greedy", "top1", "first_token_kl")
STAGE_WORDS = {
    "vision": "vision tower", "project": "projector", "select": "selection", "compress": "compressing pass",
    "prefill": "prefill", "first_decode": "first decode step", "decode": "further decode steps",
}  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    """`choice`: drawings of one title are shown one at a time, picked by it. `legend`: (style, words)."""

    title: str
    svg: str
    note: str = ""
    choice: str = ""
    legend: tuple[tuple[str, str], ...] = ()


def tradeoffs(rows: Sequence[Side], labels: Sequence[str]) -> list[Drawing]:
    """What is saved against what is lost, for every pair of figures that there is."""
    drawings = []
    for quality in (column(key) for key in QUALITY_KEYS):
        for saving in (column(key) for key in SPEED_KEYS):
            points = [(i, saving.value(row), _quality(quality, row)) for i, row in enumerate(rows)]
            known = [(i, x, y) for i, x, y in points if x is not None and y is not None]
            if len(known) > 1:
                drawings.append(_tradeoff(rows, labels, saving, quality, known))
    return drawings


def _quality(found: Column, row: Side) -> float | None:
    """The dense model agrees with itself."""
    perfect = {"greedy": 1.0, "top1": 1.0, "first_token_kl": 0.0}
    return perfect.get(found.key) if row.dense and found.key in perfect else found.value(row)


def _tradeoff(
    rows: Sequence[Side], labels: Sequence[str], x: Column, y: Column, points: Sequence[tuple[int, float, float]]
) -> Drawing:
    intervals = {i: derived.speedup(rows[i].record) for i, _, _ in points if x.key == "speedup" and not rows[i].dense}
    reach = [edge for found in intervals.values() if found for edge in (found.low, found.high)]
    chart = Chart(
        Axis(x.title.removesuffix(" [95 %]"), *spanning([p[1] for p in points] + reach, margin=0.1), x.show),
        Axis(y.title, *spanning([p[2] for p in points], margin=0.12), y.show),
    )
    best = front([(a, b) for _, a, b in points], x.better == "higher", y.better == "higher")
    chart.line(0, [points[i][1:] for i in best], "Pareto front: nothing here is better in both", css="front")
    for i, a, b in points:
        found = intervals.get(i)
        tip = f"{labels[i]}\n{x.title}: {x.cell(rows[i])}\n{y.title}: {y.show(b)}"
        chart.point(i, a, b, tip, reach=(found.low, found.high) if found else None)
    title = "Trade-off"
    note = f"{x.meaning}; {y.meaning}. The line is the Pareto front; whiskers are 95 % intervals."
    return Drawing(
        title, chart.render(f"{x.title} against {y.title}"), note, f"{y.title} against {_plain(x)}", legend(labels)
    )


def _plain(found: Column) -> str:
    return {"speedup": "speed-up", "flops_ratio": "FLOPs saved"}.get(found.key, found.title)


def legend(labels: Sequence[str], kind: str = "m") -> tuple[tuple[str, str], ...]:
    return tuple((f"{kind}{index}", label) for index, label in enumerate(labels))


def waterfall(rows: Sequence[Side], labels: Sequence[str]) -> Drawing:
    """Where a request's time goes, stage after stage."""
    used = [stage for stage in REQUEST_STAGES if any(derived.stage_ms(row.arm, stage) for row in rows)]
    bars = [
        [(colour(k), stage, derived.stage_ms(row.arm, stage) or 0.0) for k, stage in enumerate(REQUEST_STAGES)]
        for row in rows
    ]
    svg = _stacked(labels, bars, "time of a request", units.milliseconds, "Stages", STAGE_WORDS)
    colours = tuple((f"b{REQUEST_STAGES.index(stage)}", STAGE_WORDS[stage]) for stage in used)
    note = "each stage's median; deciding which tokens stay is inside the total"
    return Drawing("Stages of a request", svg, note, legend=colours)


def memory(rows: Sequence[Side], labels: Sequence[str]) -> Drawing | None:
    """What lies in memory at the peak."""
    if not any(row.arm.memory for row in rows):
        return None
    words = {"weights": "weights", "kv": "KV cache", "rest": "activations and the rest, at the peak"}
    bars = [[(colour(k), part, size) for k, (part, size) in enumerate(_memory_parts(row.arm))] for row in rows]
    svg = _stacked(labels, bars, "memory", units.bytes_, "Memory", words, unit=_byte_unit(bars))
    colours = tuple((f"b{place}", text) for place, text in enumerate(words.values()))
    sources = {row.arm.memory.source for row in rows if row.arm.memory}
    note = "the process's resident set" if sources == {"rss"} else "the CUDA allocator's peak"
    return Drawing("Memory", svg, note, legend=colours)


def _byte_unit(bars: Sequence[Sequence[tuple[str, str, float]]]) -> float:
    """GiB, MiB or KiB: the largest of which the longest bar has several."""
    longest = max(sum(size for _, _, size in row) for row in bars)
    return next((float(1 << shift) for shift in (30, 20, 10) if longest > 2 << shift), 1.0)


def _memory_parts(arm: Arm) -> list[tuple[str, float]]:
    held = arm.memory
    if held is None:
        return [("weights", 0.0), ("kv", 0.0), ("rest", 0.0)]
    rest = max((derived.peak_bytes(arm) or 0) - held.weights_bytes - held.kv_bytes, 0)
    return [("weights", held.weights_bytes), ("kv", held.kv_bytes), ("rest", rest)]


def _stacked(
    labels: Sequence[str],
    bars: Sequence[Sequence[tuple[str, str, float]]],
    axis: str,
    show: Callable[[float | None], str],
    title: str,
    words: dict[str, str],
    unit: float = 1.0,
) -> str:
    """Horizontal bars, one row each, the method's name above its bar so that long names fit."""
    row_height, count = 40, len(labels)
    totals = [sum(size for _, _, size in row) for row in bars]
    longest = max(totals, default=0.0) or 1.0
    chart = Chart(
        Axis(axis, 0.0, longest * 1.18, show, unit=unit),
        Axis("", 0.0, float(count), lambda _: ""),
        height=TOP + 46 + row_height * count,
        left=22,
    )
    for index, (label, row) in enumerate(zip(labels, bars, strict=True)):
        start, base = 0.0, count - index - 1
        chart.text(0.0, base + 0.64, label)
        for css, part, size in row:
            if size > 0:
                tip = f"{label}\n{words[part]}: {show(size)} of {show(totals[index])}"
                chart.bar(css, (start, start + size), (base + 0.08, base + 0.54), tip)
                start += size
        chart.text(start, base + 0.24, show(totals[index]), shift=(5, 0))
    return chart.render(title, y_ticks=False)


def staircase(rows: Sequence[Side], labels: Sequence[str]) -> Drawing:
    """Visual tokens that entered each decoder layer, as observed."""
    depth = max(len(row.arm.tokens.per_layer) for row in rows)
    most = max(max(row.arm.tokens.per_layer, default=0) for row in rows)
    chart = Chart(
        Axis("decoder layer", 0.0, float(depth), units.count),
        Axis("visual tokens", 0.0, most * 1.06 or 1.0, units.count),
    )
    for index, row in enumerate(rows):
        counts = row.arm.tokens.per_layer
        points = [(float(layer + side), float(count)) for layer, count in enumerate(counts) for side in (0, 1)]
        tip = f"{labels[index]}\n{_runs(counts)}\nlayer mean {units.count(row.arm.tokens.layer_mean)}"
        chart.line(index, points, tip)
    note = "observed, not planned; what a method keeps per layer is what it costs"
    return Drawing("Visual tokens per layer", chart.render("Visual tokens per layer"), note, legend=legend(labels, "l"))


def _runs(counts: Sequence[int]) -> str:
    """576 × 2 layers, 288 × 14 …"""
    runs: list[list[int]] = []
    for count in counts:
        if runs and runs[-1][0] == count:
            runs[-1][1] += 1
        else:
            runs.append([count, 1])
    return ", ".join(f"{count:,} × {length}" for count, length in runs[:8]) + (" …" if len(runs) > 8 else "")


def output_length(rows: Sequence[Side], labels: Sequence[str]) -> Drawing | None:
    """The whole request for longer answers: a saving in prefill fades."""
    lengths = [float(length) for length in OUTPUT_LENGTHS]
    curves = [
        (i, [(n, derived.request_ms_at(row.record, row.arm, int(n))) for n in lengths]) for i, row in enumerate(rows)
    ]
    known = [(i, [(n, ms) for n, ms in curve if ms]) for i, curve in curves if all(ms for _, ms in curve)]
    if not known:
        return None
    times = [ms for _, curve in known for _, ms in curve]
    chart = Chart(
        Axis("new tokens", 0.8, 640.0, units.count, log=True),
        Axis("time of a request", *spanning(times, log=True), units.milliseconds, log=True),
    )
    for i, curve in known:
        tip = labels[i] + "".join(f"\n{units.count(n)} tokens: {units.milliseconds(ms)}" for n, ms in curve)
        chart.line(i, curve, tip)
        for n, ms in curve:
            chart.point(i, n, ms, f"{labels[i]}\n{units.count(n)} new tokens: {units.milliseconds(ms)}")
    note = "from the measured first token and decode step; only the length of the run itself was measured whole"
    return Drawing(
        "Time against output length", chart.render("Time against output length"), note, legend=legend(labels)
    )


def roofline(rows: Sequence[Side], labels: Sequence[str]) -> Drawing | None:
    """How close each stage comes to what the device can do."""
    record = rows[0].record
    roof = limits(record.environment.ceilings, record.environment.device.name, record.model.dtype)
    points = [
        (index, stage, stage.intensity)
        for index, row in enumerate(rows)
        for stage in _roofs(row, roof)
        if stage.intensity and stage.flops
    ]
    if roof is None or not points:
        return None
    ridge = roof.flops_per_s / roof.bytes_per_s
    across = spanning([ridge, *(intensity for _, _, intensity in points)], log=True)
    down = spanning([roof.flops_per_s, *(stage.flops_per_s for _, stage, _ in points)], log=True)
    chart = Chart(
        Axis("FLOPs per byte moved", *across, units.number, log=True),
        Axis("FLOP/s", *down, lambda value: units.operations(value, "F"), log=True),
    )
    first = max(across[0], down[0] / roof.bytes_per_s)
    ceiling = f"{units.operations(roof.flops_per_s)}/s, {units.bytes_(roof.bytes_per_s)}/s ({roof.source})"
    corners = [(first, first * roof.bytes_per_s), (ridge, roof.flops_per_s), (across[1], roof.flops_per_s)]
    chart.line(0, corners, ceiling, css="front")
    for index, stage, intensity in points:
        reached = f"{units.operations(stage.flops_per_s)}/s, {units.share(stage.of_bound)} of what the roof allows"
        chart.point(index, intensity, stage.flops_per_s, f"{labels[index]}, {stage.stage}\n{reached}")
    note = f"each method's vision tower, prefill and decode under the device's ceilings: {ceiling}"
    return Drawing("Roofline", chart.render("Roofline"), note, legend=legend(labels))


def _roofs(row: Side, roof: Limits | None) -> list[StageRoof]:
    work = gap.stage_flops(row.arm, row.record.inputs.new_tokens)
    found = stages(gap.stage_times(row.arm), work, row.arm.bytes_moved, roof)
    return [stage for stage in found if stage.stage in ("vision", "prefill", "decode")]


def drawings(rows: Sequence[Side]) -> list[Drawing]:
    labels = derived.short_labels(rows)
    rest = [
        waterfall(rows, labels),
        staircase(rows, labels),
        memory(rows, labels),
        output_length(rows, labels),
        roofline(rows, labels),
    ]
    return [*tradeoffs(rows, labels), *(drawing for drawing in rest if drawing is not None)]
