"""One page that holds everything: no network, no library, readable without its script.

Whatever comes from a record is escaped; the page's own policy allows the one script it carries, by
its hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files

from tokprof import __version__, units
from tokprof.record import Failure, RunRecord
from tokprof.report import derived, trends
from tokprof.report.charts import Drawing, drawings
from tokprof.report.columns import Column, filled
from tokprof.report.derived import Side
from tokprof.report.svg import colour, dash, marker
from tokprof.report.table import (
    REASONS_SHOWN,
    about_machine,
    about_model,
    about_workload,
    accuracy_sources,
    reasons,
    warnings,
)


def page(records: Sequence[RunRecord], failures: Sequence[Failure] = (), *, title: str = "tokprof report") -> str:
    """The whole document."""
    groups = derived.by_subject(records)
    script, style = _asset("page.js"), _asset("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    body = "\n".join(
        [
            f'<header><div><h1>{escape(title)}</h1><p class="soft">{_counted(records, failures)}</p></div>',
            '<button id="theme" type="button" hidden>light / dark</button></header>',
            *_contents(groups),
            *_trends(records),
            *(_group(index, group) for index, group in enumerate(groups)),
            *_failed(failures),
            f'<p class="soft">written by tokprof {escape(__version__)}</p>',
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n'
        f"{body}\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _counted(records: Sequence[RunRecord], failures: Sequence[Failure]) -> str:
    days = sorted({record.created[:10] for record in records})
    when = "" if not days else f", measured {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else "")
    failed = f", {len(failures)} could not be measured" if failures else ""
    return escape(f"{len(records)} measurement{'s' * (len(records) != 1)}{failed}{when}")


def _contents(groups: Sequence[Sequence[RunRecord]]) -> Iterator[str]:
    if len(groups) > 1:
        items = "".join(f'<li><a href="#g{i}">{escape(_heading(group[0]))}</a></li>' for i, group in enumerate(groups))
        yield f"<nav><ul>{items}</ul></nav>"


def _trends(records: Sequence[RunRecord]) -> Iterator[str]:
    """Across tables: where a saving grows, fades, or turns into a loss."""
    items = "".join(f"<li>{escape(line)}</li>" for line in trends.turns(records))
    if items:
        yield f'<ul class="warnings">{items}</ul>'
    found = trends.drawings(records)
    if found:
        yield f'<div class="grid-of-charts">{"".join(_figures(found))}</div>'


def _heading(record: RunRecord) -> str:
    inputs = record.inputs
    batch = f", batch {inputs.batch}" if inputs.batch > 1 else ""
    return (
        f"{record.model.name}: {inputs.visual:,} visual + {inputs.text:,} text tokens, {inputs.new_tokens:,} new{batch}"
    )


def _group(index: int, records: Sequence[RunRecord]) -> str:
    rows, first = derived.sides(records), records[0]
    about = "".join(
        f"<p>{escape(line)}</p>" for line in (about_model(first), about_machine(first), about_workload(first))
    )
    return "\n".join(
        [
            f'<section id="g{index}"><h2>{escape(_heading(first))}</h2>{about}',
            _table(rows),
            *(f'<p class="soft">{escape(line)}</p>' for line in accuracy_sources(records)),
            *_reasons(records),
            *_warnings(records),
            '<div class="grid-of-charts">',
            *_figures(drawings(rows)),
            "</div>",
            _provenance(records),
            "</section>",
        ]
    )


def _table(rows: Sequence[Side]) -> str:
    columns = sorted(filled(rows), key=lambda column: column.key != "speedup")  # first, for narrow screens
    heads = "".join(_head(column) for column in columns)
    body = "".join(_row(row, label, columns, rows) for row, label in zip(rows, derived.short_labels(rows), strict=True))
    first = '<th scope="col"><button type="button">method</button></th>'
    return f'<div class="scroll"><table><thead><tr>{first}{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _head(column: Column) -> str:
    first = "ascending" if column.better == "lower" else "descending"
    tip = escape(f"{column.meaning}; {column.better} is better", quote=True)
    button = f'<button type="button">{escape(column.title)}</button>'
    return f'<th scope="col" data-first="{first}" data-tip="{tip}">{button}</th>'


def _row(row: Side, label: str, columns: Sequence[Column], rows: Sequence[Side]) -> str:
    cells = []
    for column in columns:
        value = column.value(row)
        css = ' class="best"' if _is_best(column, row, rows) else ""
        cells.append(
            f'<td{css} data-value="{"" if value is None else repr(float(value))}">{escape(column.cell(row))}</td>'
        )
    name = escape(label, quote=True)
    given = escape(", ".join(f"{key}={value}" for key, value in row.arm.parameters.items()), quote=True)
    tip = f' data-tip="{given}" tabindex="0"' if given else ""
    return f'<tr{" class=dense" if row.dense else ""}><td data-value="{name}"{tip}>{name}</td>{"".join(cells)}</tr>'


def _is_best(column: Column, row: Side, rows: Sequence[Side]) -> bool:
    """Best of the methods; no medal where the best is no better than the dense model's own figure."""
    values = [value for other in rows if not other.dense and (value := column.value(other)) is not None]
    if row.dense or len(values) < 2 or min(values) == max(values):
        return False
    return column.value(row) == (min(values) if column.better == "lower" else max(values))


def _reasons(records: Sequence[RunRecord]) -> Iterator[str]:
    lines = "".join(f"<li>{escape(line)}</li>" for line in reasons(records))
    if lines:
        state = " open" if len(records) <= REASONS_SHOWN else ""
        title = "Why the speed-up is not the saving in FLOPs"
        yield f"<details{state}><summary>{title}</summary><ul>{lines}</ul></details>"


def _warnings(records: Sequence[RunRecord]) -> Iterator[str]:
    items = [
        f"<li>{escape(text)}{_whose(names) if len(names) < len(records) else ''}</li>"
        for text, names in warnings(records).items()
    ]
    if items:
        yield f'<ul class="warnings" aria-label="warnings">{"".join(items)}</ul>'


def _whose(names: Sequence[str]) -> str:
    return f' <span class="soft">({escape(", ".join(names))})</span>'


def _figures(found: Sequence[Drawing]) -> Iterator[str]:
    """Drawings of one title share a figure, one of them shown at a time."""
    for title in dict.fromkeys(drawing.title for drawing in found):
        alike = [drawing for drawing in found if drawing.title == title]
        choices = "".join(f"<option>{escape(drawing.choice)}</option>" for drawing in alike)
        select = f'<select aria-label="which figures">{choices}</select>' if len(alike) > 1 else ""
        parts = "".join(_choice(drawing, len(alike) > 1) for drawing in alike)
        yield f"<figure><h3>{escape(title)}</h3>{select}{parts}{_legend(alike[0])}</figure>"


def _choice(drawing: Drawing, several: bool) -> str:
    mark = f' data-choice="{escape(drawing.choice, quote=True)}"' if several else ""
    note = f"<figcaption>{escape(drawing.note)}</figcaption>" if drawing.note else ""
    return f"<div{mark}>{drawing.svg}{note}</div>"


def _legend(drawing: Drawing) -> str:
    items = "".join(f"<li>{_sample(style)}{escape(words)}</li>" for style, words in drawing.legend)
    return f'<ul class="legend">{items}</ul>' if items else ""


def _sample(style: str) -> str:
    """A mark, a line or a bar's colour, as the drawing has it."""
    index = int(style[1:])
    shape = {
        "l": f'<path class="line {colour(index)}"{dash(index)} d="M-8,7h22"/>',
        "b": f'<rect class="bar {colour(index)}" width="14" height="14"/>',
        "m": f'<path class="mark {colour(index)}" d="{marker(index, 7, 7)}"/>',
    }[style[0]]
    wide = ' class="wide"' if style[0] == "l" else ""
    return f'<svg viewBox="0 0 14 14"{wide} aria-hidden="true">{shape}</svg>'


def _provenance(records: Sequence[RunRecord]) -> str:
    """Where the numbers come from: all that is needed to judge or repeat them."""
    first = records[0]
    facts, inputs, environment, device = first.model, first.inputs, first.environment, first.environment.device
    parity = first.parity
    shown = (
        "not checked"
        if not parity.checked
        else f"logits within {units.number(parity.relative_error)} of the model's own forward"
    )
    entries = [
        (
            "model",
            f"{facts.name} ({facts.family}), {facts.parameters / 1e9:.2f} billion parameters, {facts.depth} layers",
        ),
        ("weights", facts.weights),
        ("setting", f"{facts.dtype}, {facts.attention} attention"),
        ("inputs", inputs.description),
        ("prompt", inputs.prompt),
        ("pictures", ", ".join(f"{w} × {h}" for w, h in inputs.image_sizes) or units.MISSING),
        ("input hash", inputs.sha256[:16]),
        ("device", device.name),
        ("driver, CUDA", ", ".join(part for part in (device.driver, device.cuda) if part) or units.MISSING),
        ("clock", f"{device.sm_clock_mhz} of {device.sm_clock_max_mhz} MHz" if device.sm_clock_mhz else units.MISSING),
        ("libraries", ", ".join(f"{name} {version}" for name, version in environment.libraries.items())),
        ("system", f"{environment.os}, Python {environment.python}, {environment.cpu}, {environment.cores} cores"),
        (
            "code",
            f"tokprof {first.tokprof_version}"
            + (f", commit {environment.git_commit}" if environment.git_commit else ""),
        ),
        ("parity", shown),
        ("rounds", "; ".join(f"{label} {stop}" for label, stop in _stops(records))),
        ("cells", ", ".join(record.key for record in records)),
    ]
    body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in entries if value)
    return f"<details><summary>Provenance</summary><dl>{body}</dl></details>"


def _stops(records: Sequence[RunRecord]) -> Iterable[tuple[str, str]]:
    for label, record in zip(derived.short_labels([Side(r, r.policy, False) for r in records]), records, strict=True):
        samples = record.policy.samples
        yield (
            label,
            f"{samples.rounds} rounds ({samples.stop_reason})" if samples.stop_reason else f"{samples.rounds} rounds",
        )


def _failed(failures: Sequence[Failure]) -> Iterator[str]:
    if failures:
        items = "".join(
            f"<li>{escape(failure.cell.model)}, {escape(failure.cell.method.name)}: {escape(failure.reason)}"
            f"{f' <span class=soft>({escape(failure.hint)})</span>' if failure.hint else ''}</li>"
            for failure in failures
        )
        yield f'<h2>Not measured</h2><ul class="warnings">{items}</ul>'
