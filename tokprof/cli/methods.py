"""`tokprof methods`: every method, where it acts and what it needs; `--matrix`: what works on which family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from tokprof.methods import Fit, MethodFacts

WIDE = 130  # columns from which on papers are shown
LEGEND = (
    "keep: the default share of visual tokens; what exactly it is a share of, and every parameter, is in "
    "`tokprof methods NAME`. d: data decides how many tokens stay. t: needs weights trained with it."
)
MATRIX_LEGEND = "At default parameters, on each family's default picture and video."


def register(app: typer.Typer) -> None:
    app.command(name="methods")(methods)


def methods(
    name: Annotated[str | None, typer.Argument(help="One method, in full; a file of your own works too.")] = None,
    matrix: Annotated[bool, typer.Option("--matrix", help="What works on which family, with reasons.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The same as JSON on standard output.")] = False,
) -> None:
    """List the methods: where they act, what they need, which paper they follow."""
    from tokprof import methods as found
    from tokprof import policies

    names = policies.names() if name is None else [name]
    if json:
        _write_json(names, matrix)
        return
    from rich.console import Console

    console = Console(highlight=False)
    if matrix:
        _print_matrix(console.print, found.matrix(names))
    elif name is not None:
        console.print(detailed(found.facts(name)), markup=False)
    else:
        console.print(table([found.facts(each) for each in names], wide=console.width >= WIDE))
        console.print(f"\n{LEGEND}", style="dim")


def _write_json(names: list[str], matrix: bool) -> None:
    import json
    from dataclasses import asdict

    from tokprof import methods as found

    if matrix:
        shown: object = {
            name: {family: asdict(fit) for family, fit in fits.items()} for name, fits in found.matrix(names).items()
        }
    else:
        shown = [found.facts(name).as_json() for name in names]
    typer.echo(json.dumps(shown, indent=2))


def table(rows: list[MethodFacts], *, wide: bool) -> Table:
    from rich.table import Table

    from tokprof.units import number

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    shown.add_column("method", no_wrap=True, style="bold")
    shown.add_column("keep", justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    shown.add_column("acts")
    if wide:
        shown.add_column("paper")
    for row in rows:
        marks = ("d" if row.data_decided else "") + ("t" if row.training_based else "")
        shown.add_row(row.name, number(row.keep), marks, row.acts, *((row.paper,) if wide else ()))
    return shown


def detailed(row: MethodFacts) -> str:
    """The class's own words, its needs and its parameters."""
    lines = [f"{row.name}: {row.paper or 'the baseline'}", "", row.description, "", f"acts: {row.acts}"]
    if row.needs:
        lines.append(f"needs: {', '.join(row.needs)}")
    if row.optional:
        lines.append(f"reads where a model has it: {', '.join(row.optional)}")
    lines += ["", "parameters (--set NAME=VALUE) and their defaults:"]
    lines += [f"  {name} = {value}" for name, value in row.parameters.items()]
    return "\n".join(lines)


def _print_matrix(show: object, fits: dict[str, dict[str, Fit]]) -> None:
    assert callable(show)
    shown, notes = matrix_table(fits)
    show(shown)
    show("")
    for number, reason in enumerate(notes, 1):
        show(f"{number}  {reason}")
    show(f"\n{MATRIX_LEGEND}", style="dim")


def matrix_table(fits: dict[str, dict[str, Fit]]) -> tuple[Table, list[str]]:
    """One row per method; a cell's number points to the reasons."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    shown.add_column("method", no_wrap=True, style="bold")
    for family in next(iter(fits.values())):
        shown.add_column(family.replace("-", "\n", 1), no_wrap=True)
    notes: list[str] = []
    for name, row in fits.items():
        shown.add_row(name, *(_cell(fit, notes) for fit in row.values()))
    return shown, notes


def _cell(fit: Fit, notes: list[str]) -> str:
    for reason in fit.reasons:
        if reason not in notes:
            notes.append(reason)
    return " ".join([fit.verdict, *(str(notes.index(reason) + 1) for reason in fit.reasons)])
