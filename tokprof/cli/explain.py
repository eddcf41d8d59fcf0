"""`tokprof explain`: why the speed-up is not the FLOPs ratio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokprof.errors import InputError


def register(app: typer.Typer) -> None:
    app.command()(explain)


def explain(
    records: Annotated[Path, typer.Argument(metavar="RECORDS.json", help="What `tokprof run --json` wrote.")],
    method: Annotated[str | None, typer.Option(help="Only this method.")] = None,
) -> None:
    """Say where the time goes that the FLOPs ratio promised to save.

    tokprof run --model demo --method todre --keep 0.25 --json out.json && tokprof explain out.json
    """
    from rich.console import Console

    from tokprof.record import read_records
    from tokprof.report import roofline_table
    from tokprof.report.explain import render

    found = [record for record in read_records(records).records if method in (None, record.policy.method)]
    found = [record for record in found if record.policy.method != "dense"]
    if not found:
        what = f"of {method}" if method else "of a method"
        raise InputError(f"{records} holds no record {what}", "measure one: tokprof run --method todre --json FILE")
    console = Console(highlight=False)
    for index, record in enumerate(found):
        if index:
            console.rule(style="dim")
        console.print(render([record]))
        console.print()
        for block in roofline_table.render(record):
            console.print(block)
