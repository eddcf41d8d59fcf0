"""`tokprof report`: results as a page, a table, a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokprof.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from tokprof.record import RecordFile

SUFFIXES = {
    ".html": "html", ".md": "markdown", ".csv": "csv", ".tex": "latex", ".json": "json", ".png": "png", ".svg": "svg",
}  # fmt: skip
FIGURES = ("png", "svg")


def register(app: typer.Typer) -> None:
    app.command()(report)


def report(
    results: Annotated[list[Path], typer.Argument(help="Result files, or folders of them.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write; stdout without it.")] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="html, table, markdown, csv, latex, json, png or svg; else by the file's name."),
    ] = None,
    scores: Annotated[
        str | None, typer.Option(help="Accuracies to join: an lmms-eval file, a CSV, a folder, or `published`.")
    ] = None,
    title: Annotated[str, typer.Option(help="The page's title.")] = "tokprof report",
) -> None:
    """One self-contained page from any number of results, or a table or figure of them.

    tokprof report results/todre-table3 -o report.html
    """
    known = ("table", *SUFFIXES.values())
    shape = format_ or (SUFFIXES.get(output.suffix.lower(), output.suffix or output.name) if output else "table")
    if shape not in known:
        raise UnknownNameError("format", shape, known)
    if output is None and shape in ("html", *FIGURES):
        raise InputError(f"{shape} needs a file to go to", f"-o report.{shape}")
    from tokprof.cli.running import check_output

    check_output(None if output is None else str(output))
    found = gathered(results)
    if scores:
        from tokprof.scores import join_scores, read_scores

        joined = join_scores(found.records, read_scores(scores))
        found = found.model_copy(update={"records": tuple(joined)})
    _write(found, output, shape, title)


def gathered(paths: list[Path]) -> RecordFile:
    """All records in the order they were measured, and failures; of a cell measured twice, the newer record."""
    from tokprof.record import RecordFile, read_records

    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    read = [read_records(file) for file in files]
    in_order = sorted((record for file in read for record in file.records), key=lambda record: record.created)
    records = {record.key: record for record in in_order}
    failures = {failure.key: failure for file in read for failure in file.failures if failure.key not in records}
    if not records and not failures:
        raise InputError("there is nothing to report", "tokprof run … --json FILE writes results")
    return RecordFile(records=tuple(records.values()), failures=tuple(failures.values()))


def _write(found: RecordFile, output: Path | None, shape: str, title: str) -> None:
    if shape in FIGURES:
        if not found.records:
            raise InputError("nothing was measured that could be drawn", "-o report.html says why each cell failed")
        from tokprof.report.figures import draw

        assert output is not None
        draw(found.records, output.with_suffix(f".{shape}"))
        return
    text = _text(found, shape, title, to_file=output is not None)
    if output is None:
        print(text, end="")
    else:
        from tokprof.atomic import write_text_atomically

        write_text_atomically(output, text)


def _text(found: RecordFile, shape: str, title: str, *, to_file: bool) -> str:
    if shape == "html":
        from tokprof.report.html import page

        return page(found.records, found.failures, title=title)
    if shape != "table":
        from tokprof.report.export import export

        return export(found.records, shape, found.failures)
    from rich.console import Console

    from tokprof.report.table import render

    console = Console(highlight=False, width=160 if to_file else None, no_color=True if to_file else None)
    with console.capture() as captured:
        console.print(render(found.records, width=console.width))
    return captured.get()
