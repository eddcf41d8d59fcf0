"""The catalogue of columns: the terminal's table, the exports and the page all draw from it, so that
a figure means the same wherever it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tokprof import units
from tokprof.report import derived
from tokprof.report.derived import Side

Group = Literal["headline", "cost", "memory", "energy", "throughput", "fidelity", "accuracy"]
Better = Literal["lower", "higher"]
Show = Callable[[float | None], str]


@dataclass(frozen=True)
class Column:
    """`better`: which way is good. `text`: a cell that says more than the bare value."""

    key: str
    title: str
    group: Group
    unit: str
    better: Better
    show: Show
    value: Callable[[Side], float | None]
    text: Callable[[Side], str] | None = None
    meaning: str = ""

    def cell(self, side: Side) -> str:
        return self.text(side) if self.text else self.show(self.value(side))


def _speed(side: Side) -> float | None:
    found = None if side.dense else derived.speedup(side.record)
    return 1.0 if side.dense else found.ratio if found else None


def _speed_text(side: Side) -> str:
    found = None if side.dense else derived.speedup(side.record)
    return "1" if side.dense else derived.interval_text(found) if found else units.MISSING


def _accuracy_text(side: Side) -> str:
    found, value = side.arm.accuracy, derived.accuracy(side.arm)
    if found is None or value is None:
        return units.MISSING
    return f"{found.correct}/{found.questions}" if found.correct is not None else units.number(value)


def _mean_text(side: Side) -> str:
    """With the paper's own count behind it, where that differs."""
    tokens = side.arm.tokens
    own = "" if tokens.published_mean is None else f" (paper: {units.count(round(tokens.published_mean, 1))})"
    return units.count(round(tokens.layer_mean, 1)) + own


def _kv(side: Side) -> float | None:
    return side.arm.memory.kv_bytes if side.arm.memory else None


def _fidelity(name: str) -> Callable[[Side], float | None]:
    return lambda side: getattr(side.arm.fidelity, name) if side.arm.fidelity else None


def _stage(name: str) -> Callable[[Side], float | None]:
    return lambda side: derived.stage_ms(side.arm, name)


def _select_flops(side: Side) -> float | None:
    """The matrix work of a method's decisions; the dense model takes none."""
    parts = side.arm.flops.get(derived.CONVENTION)
    return parts.get("selection", 0) if parts and not side.dense else None


def _joules(per: Literal["requests", "tokens"]) -> Callable[[Side], float | None]:
    def value(side: Side) -> float | None:
        energy = side.arm.energy
        return energy.joules / getattr(energy, per) if energy and getattr(energy, per) else None

    return value


def _energy(key: str, title: str, per: Literal["requests", "tokens"], meaning: str) -> Column:
    return Column(key, title, "energy", "J", "lower", units.number, _joules(per), meaning=meaning)


def _syncs(side: Side) -> float | None:
    counted = side.arm.activity.host_syncs if side.arm.activity else {}
    return sum(counted.values()) if counted else None


def _rate(basis: Literal["original", "processed"]) -> Callable[[Side], float | None]:
    return lambda side: derived.tokens_per_s(side.record, side.arm, basis)


def _time(key: str, title: str, group: Group, value: Callable[[Side], float | None], meaning: str) -> Column:
    return Column(key, title, group, "ms", "lower", units.milliseconds, value, meaning=meaning)


def _per_second(key: str, title: str, value: Callable[[Side], float | None], meaning: str) -> Column:
    return Column(key, title, "throughput", "1/s", "higher", units.number, value, meaning=meaning)


def _agreement(key: str, title: str, name: str, meaning: str) -> Column:
    return Column(key, title, "fidelity", "share", "higher", units.share, _fidelity(name), meaning=meaning)


COLUMNS: tuple[Column, ...] = (
    Column(
        "entering", "enter", "headline", "tokens", "lower", units.count, lambda s: s.arm.tokens.entering,
        meaning="visual tokens at the first decoder layer that sees any",
    ),
    Column(
        "layer_mean", "layer mean", "headline", "tokens", "lower", units.count,
        lambda s: s.arm.tokens.layer_mean, _mean_text,
        meaning="visual tokens per decoder layer, observed, on average: the papers' “average retained tokens”",
    ),
    Column(
        "flops_ratio", "FLOPs ÷", "headline", "×", "higher", units.ratio,
        lambda s: derived.flops_ratio(s.record, s.arm),
        meaning="exact FLOPs of the dense model over the method's, for the whole request",
    ),
    _time("request_ms", "request", "headline", lambda s: derived.total_ms(s.arm), "vision to last token, median"),
    Column(
        "speedup", "speed-up [95 %]", "headline", "×", "higher", units.ratio, _speed, _speed_text,
        meaning="whole request, dense over method, measured interleaved; paired-bootstrap 95 % interval",
    ),
    Column(
        "flops", "FLOPs", "cost", "FLOP", "lower", units.operations, lambda s: derived.flops(s.arm),
        meaning="exact: 2 per multiply–accumulate; vision tower, projector, selection, decoder and head",
    ),
    _time(
        "first_token_ms", "first token", "cost", lambda s: derived.first_token_ms(s.arm),
        "vision, projector, selection and prefill",
    ),
    _time("vision_ms", "vision", "cost", _stage("vision"), "vision tower"),
    _time("select_ms", "select", "cost", _stage("select"), "deciding which tokens stay"),
    _time("compress_ms", "compress", "cost", _stage("compress"), "a pass that makes a few tokens of the picture"),
    _time("prefill_ms", "prefill", "cost", _stage("prefill"), "the decoder's pass over the prompt"),
    _time(
        "per_token_ms", "per token", "cost", lambda s: derived.step_ms(s.record, s.arm),
        "a decode step, the first one apart",
    ),
    Column(
        "select_flops", "select FLOPs", "cost", "FLOP", "lower", units.operations, _select_flops,
        meaning="exact: the matrix work of deciding which tokens stay, contained in FLOPs; sorting has none",
    ),
    Column(
        "syncs", "syncs", "cost", "count", "lower", units.count, _syncs,
        meaning="how often the host asks for a value of the device's in a request, counted in a pass of its own",
    ),
    Column(
        "peak_bytes", "peak memory", "memory", "B", "lower", units.bytes_, lambda s: derived.peak_bytes(s.arm),
        meaning="the CUDA allocator's peak; on a CPU the process's resident set",
    ),
    Column("kv_bytes", "KV cache", "memory", "B", "lower", units.bytes_, _kv, meaning="cache tensors after prefill"),
    _energy("joules_per_request", "J/request", "requests", "energy of the whole GPU, idle power contained"),
    _energy("joules_per_token", "J/token", "tokens", "the same, for each generated token"),
    _per_second("requests_per_s", "req/s", lambda s: derived.requests_per_s(s.record, s.arm), "requests per second"),
    _per_second(
        "original_per_s", "tok/s orig.", _rate("original"), "tokens per second as if none had been dropped"
    ),
    _per_second(
        "processed_per_s", "tok/s proc.", _rate("processed"), "tokens per second, visual ones by their layer mean"
    ),
    Column(
        "first_token_kl", "KL", "fidelity", "nat", "lower", units.number, _fidelity("first_token_kl"),
        meaning="divergence of the first token's distribution from the dense model's",
    ),
    _agreement("top1", "top-1", "top1_agreement", "same first token as the dense model"),
    _agreement("greedy", "greedy", "greedy_agreement", "generated tokens equal to the dense model's"),
    Column(
        "accuracy", "accuracy", "accuracy", "share", "higher", units.number, lambda s: derived.accuracy(s.arm),
        _accuracy_text, meaning="answers right; the source is named below",
    ),
)  # fmt: skip


def column(key: str) -> Column:
    return next(found for found in COLUMNS if found.key == key)


def filled(rows: Sequence[Side]) -> list[Column]:
    """The columns in which any row has a value."""
    return [found for found in COLUMNS if any(found.value(row) is not None for row in rows)]
