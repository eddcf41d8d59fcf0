"""docs/schema.md from the record's own classes: fields, types, and the comments that stand beside them."""

from __future__ import annotations

import inspect
import re

from pydantic import BaseModel

from tokprof import recipe, record

CLASSES: tuple[type[BaseModel], ...] = (
    record.RecordFile,
    record.RunRecord,
    record.Arm,
    record.Tokens,
    record.Samples,
    record.StageSamples,
    record.Memory,
    record.Energy,
    record.Fidelity,
    record.Activity,
    record.Accuracy,
    record.ModelFacts,
    record.Inputs,
    record.Environment,
    record.Device,
    record.Ceilings,
    record.Parity,
    record.Failure,
    recipe.Cell,
    recipe.Method,
    recipe.Workload,
    recipe.Setting,
    recipe.Measurement,
)

HEAD = """# The result file

`tokprof run … --json FILE` writes a JSON object with `"kind": "tokprof.records"`. It holds inputs, environment and raw
samples; speed-ups, medians and shares are derived when it is read, never stored. A file is replaced as a whole after
every finished policy, so a reader never sees half of one. Times are milliseconds (`_ms`), sizes bytes (`_bytes`).

Schema version: {version}. A file of another version is refused with a word on what to do; so are unknown fields.
This page is generated from `tokprof/record.py` and `tokprof/recipe.py`.
"""


def schema_page() -> str:
    parts = [HEAD.format(version=record.SCHEMA_VERSION)]
    for kind in CLASSES:
        doc = inspect.cleandoc(kind.__doc__ or "") if kind.__doc__ != BaseModel.__doc__ else ""
        parts.append(f"## {kind.__name__}\n")
        if doc:
            parts.append(f"{doc}\n")
        comments = _comments(kind)
        rows = ["| field | type | meaning |", "| --- | --- | --- |"]
        for name, field in kind.model_fields.items():
            shown = _type(field.annotation)
            optional = "" if field.is_required() else " (optional)"
            rows.append(f"| `{name}` | {shown}{optional} | {comments.get(name, '')} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _type(annotation: object) -> str:
    name = getattr(annotation, "__name__", None) if inspect.isclass(annotation) else None
    text = name or str(annotation)
    for noise in ("typing.", "tokprof.record.", "tokprof.recipe."):
        text = text.replace(noise, "")
    return text.replace(" | None", " or null").replace("|", "or").replace("NoneType", "null")


def _comments(kind: type[BaseModel]) -> dict[str, str]:
    """What stands behind the # on a field's line."""
    found = {}
    for line in inspect.getsource(kind).splitlines():
        match = re.match(r"    (\w+): [^#]*#\s*(.*)$", line)
        if match and not match.group(2).startswith("type:"):
            found[match.group(1)] = match.group(2).replace("|", "or")
    return found
