"""`tokprof compare`: what changed between two results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tokprof.errors import InputError

FORMATS = ("table", "markdown")


def register(app: typer.Typer) -> None:
    app.command()(compare)


def compare(
    before: Annotated[Path, typer.Argument(help="A result file, or a folder of them.", show_default=False)],
    after: Annotated[Path, typer.Argument(help="The same, measured later or elsewhere.", show_default=False)],
    force: Annotated[
        bool, typer.Option("--force", help="Set times of unlike machines or settings side by side.")
    ] = False,
    shape: Annotated[str, typer.Option("--format", help="table or markdown.")] = "table",
) -> None:
    """Compare two results, metric by metric: ratio, 95 % interval and verdict.

    SAME, FAST, SLOW, AMBIGUOUS for times (LESS, MORE for counts); INCOMPARABLE, with the fields that
    differ, where the device or the setting is another.
    """
    if shape not in FORMATS:
        raise InputError(f"--format {shape!r}", f"one of {', '.join(FORMATS)}")
    from tokprof.report.comparable import paired, read_any
    from tokprof.report.compare import compare as compare_records
    from tokprof.report.compare_table import markdown, render

    pairs, gone, new = paired(read_any(before), read_any(after))
    found = [compare_records(first, second, force=force) for first, second in pairs]
    if not found:
        raise InputError(
            f"{before} and {after} have no record of the same question",
            "compare results of the same models, methods and workloads",
        )
    if shape == "markdown":
        sys.stdout.write(markdown(found, gone, new))
        return
    from rich.console import Console

    Console(highlight=False).print(render(found, gone, new))
