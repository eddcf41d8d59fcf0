"""Comparison with files that were looked at once. Delete a file to have it written anew, then look at it."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def same_as_golden(name: str, text: str) -> None:
    path = FOLDER / name
    if not path.is_file():
        path.write_text(text, encoding="utf-8")
        raise AssertionError(f"{path} was missing and is written now: look at it, then commit it")
    assert text == path.read_text(encoding="utf-8"), f"differs from {path}"
