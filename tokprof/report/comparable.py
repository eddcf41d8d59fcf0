"""Which records may be compared, and which fields stand in the way.

A time means something only beside a time of the same device and setting; a count of tokens or FLOPs
means the same on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokprof.errors import RecordError
from tokprof.record import RunRecord, read_records

Field = Callable[[RunRecord], object]

CONFIGURATION: dict[str, Field] = {
    "model": lambda record: record.model.name,
    "method": lambda record: record.policy.method,
    "parameters": lambda record: record.policy.parameters,
    "parameter count": lambda record: record.model.parameters,
    "visual tokens": lambda record: record.inputs.visual,
    "text tokens": lambda record: record.inputs.text,
    "batch": lambda record: record.inputs.batch,
    "new tokens": lambda record: record.inputs.new_tokens,
    "scores": lambda record: record.cell.setting.scores,
}
MACHINE: dict[str, Field] = {
    "device": lambda record: record.environment.device.name,
    "device kind": lambda record: record.environment.device.kind,
    "driver": lambda record: (record.environment.device.driver or "").partition(".")[0],
    "threads": lambda record: record.environment.device.threads,
    "dtype": lambda record: record.model.dtype,
    "attention": lambda record: record.model.attention,
    "inputs": lambda record: record.inputs.sha256,
    "trained weights": lambda record: record.model.trained,
}


@dataclass(frozen=True)
class Difference:
    field: str
    before: object
    after: object

    def __str__(self) -> str:
        return f"{self.field}: {_short(self.before)} → {_short(self.after)}"


def differences(before: RunRecord, after: RunRecord, *fields: dict[str, Field]) -> tuple[Difference, ...]:
    found = []
    for group in fields or (CONFIGURATION, MACHINE):
        for name, read in group.items():
            if read(before) != read(after):
                found.append(Difference(name, read(before), read(after)))
    return tuple(found)


def identity(record: RunRecord) -> str:
    """Equal for the same question, wherever and for however long it was asked."""
    cell = record.cell.model_dump(mode="json", exclude={"measurement": True, "setting": {"device", "weights"}})
    return json.dumps(cell, sort_keys=True, ensure_ascii=False)


def label(record: RunRecord) -> str:
    cell = record.cell
    parameters = ", ".join(f"{name}={_short(value)}" for name, value in cell.method.parameters.items())
    workload = f"batch {record.inputs.batch}, {record.inputs.new_tokens} new tokens"
    return f"{record.model.name} · {cell.method.name} {parameters}".strip() + f" · {workload}"


def paired(
    before: Sequence[RunRecord], after: Sequence[RunRecord]
) -> tuple[list[tuple[RunRecord, RunRecord]], list[RunRecord], list[RunRecord]]:
    """Pairs that answer the same question, and what only one side has.

    One record on each side is a pair in any case: whoever names two results wants to hear how they differ.
    """
    if len(before) == len(after) == 1:
        return [(before[0], after[0])], [], []
    known = {identity(record): record for record in before}
    found = {identity(record): record for record in after}
    pairs = [(record, found[key]) for key, record in known.items() if key in found]
    return (
        pairs,
        [record for key, record in known.items() if key not in found],
        [record for key, record in found.items() if key not in known],
    )


def read_any(path: Path) -> list[RunRecord]:
    """The records of a file, or of all result files in a folder."""
    if not path.is_dir():
        return list(read_records(path).records)
    records: list[RunRecord] = []
    for file in sorted(path.rglob("*.json")):
        if _looks_like_records(file):
            records += read_records(file).records
    if not records:
        raise RecordError(f"no result files in {path}", "tokprof run … --json FILE writes one")
    return records


def _looks_like_records(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8") as text:
            return '"tokprof.records"' in text.read(200)
    except (OSError, UnicodeDecodeError):
        return False


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_short(part)}" for name, part in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value) if value not in (None, "") else "unknown"
    return text if len(text) <= 60 else text[:12] + "…"
