"""The README's table and picture, from the committed records of real runs in reports/."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tokprof import units
from tokprof.record import RunRecord, read_records
from tokprof.report import derived
from tokprof.report.columns import column
from tokprof.report.html import page

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "reports" / "demo" / "readme.json"
PICTURE = ROOT / "reports" / "demo" / "readme.svg"
COLUMNS = ("layer_mean", "flops_ratio", "speedup", "first_token_ms", "per_token_ms", "kv_bytes", "accuracy", "greedy")


def demo_table() -> str:
    records = _records()
    rows = derived.sides(records)
    shown = [column(key) for key in COLUMNS if any(column(key).value(row) is not None for row in rows)]
    lines = ["| method | " + " | ".join(found.title for found in shown) + " |", "|:--|" + "--:|" * len(shown)]
    for row, label in zip(rows, derived.short_labels(rows), strict=True):
        lines.append(f"| {label} | " + " | ".join(found.cell(row) for found in shown) + " |")
    return "\n".join(lines)


def record_line() -> str:
    """Where the table's numbers come from."""
    first = _records()[0]
    machine, facts = first.environment, first.model
    return (
        f"Measured on {first.created[:10]}: {facts.name} ({units.count(facts.parameters)} parameters, "
        f"{'trained' if facts.trained else 'random weights'}, {facts.dtype}), {machine.cpu}, {machine.cores} cores, "
        f"torch {machine.libraries.get('torch', '?')}, transformers {machine.libraries.get('transformers', '?')}. "
        "The raw samples are in [`reports/demo/readme.json`](reports/demo/readme.json)."
    )


def demo_page() -> str:
    """The same records as a page of their own."""
    return page(_records(), title="tokprof on the demo model")


def picture_is_stale() -> bool:
    """The picture names the records it was drawn from."""
    return not PICTURE.exists() or _fingerprint() not in PICTURE.read_text(encoding="utf-8")


def draw_picture() -> None:
    from tokprof.report.figures import draw

    draw(_records(), PICTURE)
    text = PICTURE.read_text(encoding="utf-8")
    PICTURE.write_text(f"{text.rstrip()}\n<!-- drawn from {_fingerprint()} -->\n", encoding="utf-8")


def _fingerprint() -> str:
    return f"readme.json sha256:{hashlib.sha256(DEMO.read_bytes()).hexdigest()[:16]}"


def _records() -> list[RunRecord]:
    return list(read_records(DEMO).records)
