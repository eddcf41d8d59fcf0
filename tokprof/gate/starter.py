"""What `tokprof check --init` leaves behind: a baseline and a workflow that checks against it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokprof.atomic import write_text_atomically
from tokprof.errors import InputError
from tokprof.record import RunRecord, write_records

BASELINE = Path(".tokprof/baseline.json")
WORKFLOW = Path(".github/workflows/tokprof.yml")

WORKFLOW_TEXT = """\
name: tokprof
on: [pull_request]
jobs:
  counts:  # tokens, FLOPs, cache bytes and synchronisations: exact, on any machine
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - run: pip install tokprof
      - run: tokprof check --baseline .tokprof/baseline.json --tier 1 --device cpu --junit tokprof.xml
  # times: docs/ci.md shows the same for a self-hosted runner with a GPU
"""


def refuse_to_overwrite(folder: Path, *, yes: bool) -> None:
    """Before anything is measured."""
    present = [str(path) for path in (BASELINE, WORKFLOW) if (folder / path).exists()]
    if present and not yes:
        raise InputError(f"{' and '.join(present)} already there", "--yes writes them anew")


def write_starter(folder: Path, records: Sequence[RunRecord]) -> list[Path]:
    write_records(folder / BASELINE, records)
    if not (folder / WORKFLOW).exists():
        write_text_atomically(folder / WORKFLOW, WORKFLOW_TEXT)
    return [BASELINE, WORKFLOW]
