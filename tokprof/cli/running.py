"""Run a recipe and print what came of it: progress on stderr, results on stdout."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tokprof.errors import InputError, TokprofError

if TYPE_CHECKING:
    from tokprof.recipe import Recipe
    from tokprof.record import RunRecord

FORMATS = ("table", "markdown", "csv", "json")


def check_output(path: str | None) -> None:
    """Whether the records can be written, before anything is measured."""
    if path is None or path == "-":
        return
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target} is a folder", f"give a file in it, such as {target}/run.json")
    folder = target.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"cannot write {target}: {folder} is no folder", "choose a folder you may write to")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}", "choose a folder you may write to") from error
    if target.exists() and not os.access(target, os.W_OK):
        raise InputError(f"cannot write {target}: permission denied", "choose another file")


def run_and_print(
    recipe: Recipe, *, json_path: str | None, shape: str, join: str | None, official: bool, yes: bool
) -> None:
    """`official`: show beside each method what scoring the official way costs."""
    if shape not in FORMATS:
        raise InputError(f"--format {shape!r}", f"one of {', '.join(FORMATS)}")
    from tokprof.cli.progress import ProgressLine
    from tokprof.profiler import Listener, measure_all
    from tokprof.record import write_records
    from tokprof.resolve import refuse_the_hopeless, resolve, with_official_scores

    joined = _joiner(join)
    refuse_the_hopeless(recipe, yes=yes)
    cells = with_official_scores(resolve(recipe)) if official else resolve(recipe)
    records: list[RunRecord] = []

    def finished(record: RunRecord) -> None:
        records.append(record)
        if json_path is not None and json_path != "-":
            write_records(Path(json_path), records)

    failure: TokprofError | None = None
    with ProgressLine() as line:
        try:
            measure_all(cells, Listener(on_record=finished, on_stage=line.stage, on_note=line.note))
        except TokprofError as error:
            failure = error
    records = joined(records)
    if records:
        show(records, shape="json" if json_path == "-" else shape)
    if failure is not None:
        raise failure


def _joiner(source: str | None) -> Callable[[list[RunRecord]], list[RunRecord]]:
    """Accuracies from elsewhere, read before anything is measured."""
    if source is None:
        return lambda records: records
    from tokprof.scores import join_scores, read_scores

    scores = read_scores(source)
    return lambda records: join_scores(records, scores)


def show(records: list[RunRecord], *, shape: str) -> None:
    if shape == "json":
        from tokprof.record import records_as_json

        sys.stdout.write(records_as_json(records))
    elif shape == "table":
        from rich.console import Console

        from tokprof.report.table import render

        console = Console(highlight=False)
        console.print(render(records, width=console.width))
    else:
        from tokprof.report.export import export

        sys.stdout.write(export(records, shape))
