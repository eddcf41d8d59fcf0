"""The gap between FLOPs and time in words: one paragraph and one small table per policy. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokprof import units
from tokprof.record import RunRecord
from tokprof.report import derived, gap
from tokprof.report.gap import Decomposition, Term

OUTPUT_LENGTHS = (1, 16, 128, 512)
BIG_SHARE = 0.1  # of the lost time: smaller terms stay in the table
NOTHING_MS = 1e-6
MEANT = {
    "vision tower, projector": "the vision tower and projector, which no pruner behind them touches",
    "selection": "deciding which tokens stay",
    "decode": "decoding, whose cost hardly depends on the visual tokens",
    "prefill": "prefill, whose FLOPs shrink less than the rest",
    "launch-bound": "waiting for the host to queue work, which fewer tokens cannot shorten",
    "utilisation": "a prefill that runs less efficiently on fewer tokens",
    "remainder": "vision, projector and decode running slower than before",
}


def sentence(record: RunRecord) -> str:
    """One sentence for below a run's table."""
    found = gap.decompose(record)
    if found is None:
        return ""
    head = f"{_label(record)}: {units.ratio(found.flops_ratio)} fewer FLOPs, {_speedup_words(found)}"
    causes = _causes(found)
    why = f", because of {MEANT[causes[0].name]}" if causes and found.lost_ms > 0 else ""
    return f"{head}{why}; {_ceiling_words(record)}"


def paragraph(record: RunRecord) -> str:
    """What the policy saves, where the rest of the time goes, and where it stops paying."""
    found = gap.decompose(record)
    if found is None:
        return f"{_label(record)}: this record holds no times or no FLOPs to compare."
    ideal = found.dense_ms / found.flops_ratio
    parts = [
        f"{_label(record)} needs {units.ratio(found.flops_ratio)} fewer FLOPs than the dense model and is "
        f"{_speedup_words(found)}: {units.milliseconds(found.policy_ms)} instead of "
        f"{units.milliseconds(found.dense_ms)}.",
        f"If time followed FLOPs it would take {units.milliseconds(ideal)}; {_lost_words(found)}.",
        f"{_capital(_ceiling_words(record))}.",
        _outputs_words(record),
        _tokens_words(record),
    ]
    return " ".join(part for part in parts if part)


def render(records: Sequence[RunRecord]) -> RenderableType:
    """Paragraph and table for each policy."""
    blocks: list[RenderableType] = []
    for record in records:
        found = gap.decompose(record)
        blocks.append(Text(paragraph(record)))
        if found is not None:
            blocks += [Text(""), table(found)]
        blocks += [_ceilings(record), Text("")]
    return Group(*blocks[:-1])


def table(found: Decomposition) -> Table:
    """The terms, and that they sum to the gap."""
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    shown.add_column("where the gap comes from", no_wrap=True)
    for title in ("lost", "of the gap"):
        shown.add_column(title, justify="right", no_wrap=True)
    shown.add_column("meaning", style="dim")
    for term in found.terms:
        shown.add_row(term.name, _signed(term.lost_ms), _of_gap(found.in_ratio(term)), term.meaning)
    total = f"{units.ratio(found.flops_ratio)} by FLOPs, {units.ratio(found.speedup)} by the clock"
    shown.add_row("sum", _signed(found.lost_ms), _of_gap(found.gap), total, style="bold")
    return shown


def _ceilings(record: RunRecord) -> Text:
    """What the best prefill pruner could reach, by output length."""
    limits = [(tokens, gap.ceiling(record, tokens)) for tokens in OUTPUT_LENGTHS]
    shown = ", ".join(f"{limit:.2f}× at {tokens}" for tokens, limit in limits if limit is not None)
    return Text(f"At most, by new tokens: {shown}" if shown else "", style="dim")


def _label(record: RunRecord) -> str:
    return derived.Side(record, record.policy, False).label


def _speedup_words(found: Decomposition) -> str:
    if found.speedup >= 1:
        return f"{units.ratio(found.speedup)} as fast"
    return f"slower ({units.ratio(found.speedup)})"


def _causes(found: Decomposition) -> list[Term]:
    """Terms that lose a notable part, the largest first."""
    lost = [term for term in found.terms if term.lost_ms > BIG_SHARE * abs(found.lost_ms) > 0]
    return sorted(lost, key=lambda term: -term.lost_ms)


def _lost_words(found: Decomposition) -> str:
    if found.lost_ms <= 0:
        return f"it is {units.milliseconds(-found.lost_ms)} faster than that"
    causes = "; ".join(f"{units.milliseconds(term.lost_ms)} go to {MEANT[term.name]}" for term in _causes(found))
    gained = sum(-term.lost_ms for term in found.terms if term.lost_ms < 0)
    back = f"; {units.milliseconds(gained)} come back elsewhere" if gained > BIG_SHARE * found.lost_ms else ""
    return f"of the {units.milliseconds(found.lost_ms)} between, {causes}{back}"


def _ceiling_words(record: RunRecord) -> str:
    limit, tokens = gap.ceiling(record), record.inputs.new_tokens
    if limit is None:
        return "its ceiling is unknown"
    return f"at {units.counted(tokens, 'new token')} no prefill pruner can beat {units.ratio(limit)} here"


def _outputs_words(record: RunRecord) -> str:
    found = gap.winning_outputs(record)
    if found is None:
        return ""
    if not found.wins:
        return "It does not win at any output length here."
    if found.first > 1:
        return f"It wins only from {found.first:,} new tokens on."
    if found.last is not None:
        return f"It wins up to {units.counted(found.last, 'new token')}."
    if found.notable is None:
        return "It wins by 5 % or more at every output length."
    if found.notable == 0:
        return "It wins at every output length, but by less than 5 %."
    return f"It wins at every output length, by 5 % or more up to {units.counted(found.notable, 'new token')}."


def _tokens_words(record: RunRecord) -> str:
    fewest, visual = gap.fewest_visual_tokens(record), record.inputs.visual
    if fewest is None:
        return f"It does not win at this prompt's {units.counted(visual, 'visual token')}."
    if fewest == 1:
        return "By estimate it pays however few visual tokens there are."
    return f"By estimate it pays from {fewest:,} visual tokens on; this prompt has {visual:,}."


def _signed(value_ms: float) -> str:
    if abs(value_ms) < NOTHING_MS:
        return "0"
    return units.signed(value_ms, units.milliseconds)


def _of_gap(ratio: float) -> str:
    return units.signed(ratio, "{:.3f}×".format)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
