"""`tokprof check`: the gate for continuous integration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokprof.errors import InputError, MachineError

if TYPE_CHECKING:
    from tokprof.gate.calibration import Calibration
    from tokprof.gate.outcome import Outcome
    from tokprof.gate.verdicts import Tiers
    from tokprof.recipe import Cell
    from tokprof.record import RunRecord

FORMATS = ("table", "markdown")
AGAINST, MEASURING, OUTPUT = "What to check against", "How it is measured", "Output"


def register(app: typer.Typer) -> None:
    app.command()(check)


def check(
    recipe: Annotated[str | None, typer.Argument(help="What to measure; default: the cells of the baseline.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="A result file; default .tokprof/baseline.json.", rich_help_panel=AGAINST)
    ] = None,
    against_ref: Annotated[
        str | None, typer.Option(help="A git reference, measured in turns with this code.", rich_help_panel=AGAINST)
    ] = None,
    base_python: Annotated[
        str | None, typer.Option(help="Interpreter for that reference.", rich_help_panel=AGAINST)
    ] = None,
    tier: Annotated[
        str, typer.Option(help="1: exact counts. 2: also times. auto: 2 on a GPU.", rich_help_panel=AGAINST)
    ] = "auto",
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.", rich_help_panel=MEASURING)] = None,
    rounds: Annotated[int | None, typer.Option(help="Exactly so many rounds.", rich_help_panel=MEASURING)] = None,
    min_seconds: Annotated[float | None, typer.Option(help="At least so long.", rich_help_panel=MEASURING)] = None,
    timeout: Annotated[float | None, typer.Option(help="At most so many seconds.", rich_help_panel=MEASURING)] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Learn this machine's noise from runs of the same code.")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="Where it is kept; default: the user's cache.", rich_help_panel=MEASURING)
    ] = None,
    init: Annotated[bool, typer.Option("--init", help="Write a baseline and a workflow file.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML to this file.", rich_help_panel=OUTPUT)] = None,
    shape: Annotated[str, typer.Option("--format", help="table or markdown.", rich_help_panel=OUTPUT)] = "table",
    yes: Annotated[bool, typer.Option("--yes", help="Overwrite what --init wrote; measure large models, too.")] = False,
) -> None:
    """Gate for CI: did anything get worse? Exit 0 pass, 1 regressed, 2 bad use, 3 ambiguous or incomparable.

    tokprof check --init recipes/ci.yaml · tokprof check · tokprof check --against-ref origin/main --tier 2
    """
    from tokprof.cli.running import check_output
    from tokprof.gate.outputs import check_summary
    from tokprof.gate.starter import BASELINE

    _refuse_contradictions(baseline, against_ref, base_python, calibrate=calibrate, init=init)
    _refuse_words(tier, shape, calibrate=calibrate)
    check_output(str(junit) if junit else None)
    check_summary()
    file = baseline or BASELINE
    before = _records(file) if recipe is None or not (against_ref or init or calibrate) else []
    cells = _cells(recipe, before)
    chosen = _tier(tier, before, device, times_wanted=calibrate or (init and tier == "2"))
    wanted = {"rounds": rounds, "min_seconds": min_seconds, "timeout": timeout}
    cells = _adapted(cells, chosen, device, wanted)
    _refuse_what_cannot_run(cells, yes=yes)
    if calibrate:
        _calibrate(cells, calibration)
    elif init:
        _init(cells, yes=yes)
    else:
        known = _known_noise(calibration)
        if against_ref:
            outcome = _against_reference(cells, against_ref, base_python, chosen, known)
        else:
            outcome = _against_file(before, cells, chosen, known)
        _finish(outcome, junit, shape)


def _refuse_contradictions(
    baseline: Path | None, against_ref: str | None, base_python: str | None, *, calibrate: bool, init: bool
) -> None:
    if against_ref is not None and not against_ref.strip():
        raise InputError("--against-ref '': something is missing", "name a reference, or leave --against-ref out")
    if baseline and against_ref:
        raise InputError("--baseline and --against-ref both say what to check against", "give one of them")
    if base_python and not against_ref:
        raise InputError("--base-python without --against-ref", "it names the interpreter for that reference")
    modes = [
        name for name, given in (("--init", init), ("--calibrate", calibrate), ("--against-ref", against_ref)) if given
    ]
    if len(modes) > 1:
        raise InputError(f"{' and '.join(modes)} are different things to do", "give one of them")
    if init and baseline:
        raise InputError("--init writes .tokprof/baseline.json, not --baseline", "leave --baseline out")


def _refuse_words(tier: str, shape: str, *, calibrate: bool) -> None:
    if tier not in ("auto", "1", "2"):
        raise InputError(f"--tier {tier!r}", "one of auto, 1, 2")
    if shape not in FORMATS:
        raise InputError(f"--format {shape!r}", f"one of {', '.join(FORMATS)}")
    if calibrate and tier == "1":
        raise InputError("--calibrate is about times, and --tier 1 has none", "leave --tier out")


def _refuse_what_cannot_run(cells: list[Cell], *, yes: bool) -> None:
    """Before anything is measured, here where the mistake was made."""
    from tokprof.measure.apart import recipes_of
    from tokprof.resolve import refuse_the_hopeless

    for recipe in recipes_of(cells):
        try:
            refuse_the_hopeless(recipe, yes=yes)
        except MachineError as error:
            if "no CUDA device" not in error.message:
                raise
            raise MachineError(error.message, "--device cpu compares the counts, which need no GPU") from error


def _records(file: Path) -> list[RunRecord]:
    from tokprof.report.comparable import read_any

    if not file.exists():
        raise InputError(
            f"no baseline {file}", "tokprof check --init RECIPE writes one; with --against-ref, name a RECIPE"
        )
    records = read_any(file)
    if not records:
        raise InputError(f"{file} holds no records", "tokprof check --init RECIPE writes a baseline")
    return records


def _cells(recipe: str | None, before: list[RunRecord]) -> list[Cell]:
    if recipe is None:
        return [record.cell for record in before]
    from tokprof.recipe_file import locate, read_recipe

    return list(read_recipe(locate(recipe)).cells())


def _tier(tier: str, before: list[RunRecord], device: str | None, *, times_wanted: bool) -> Tiers:
    """auto: times on a GPU, unless the baseline has none."""
    if tier != "auto":
        return 1 if tier == "1" else 2
    if times_wanted:
        return 2
    from tokprof.resolve import chosen_device

    if any(record.environment.device.kind == "cpu" for record in before):
        return 1
    return 2 if chosen_device(device or "auto").startswith("cuda") else 1


def _adapted(cells: list[Cell], tier: Tiers, device: str | None, wanted: dict[str, Any]) -> list[Cell]:
    from pydantic import ValidationError

    from tokprof.gate.measuring import adapted

    try:
        return adapted(cells, tier, device=device, **wanted)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"--{str(first['loc'][0]).replace('_', '-')} {first['input']!r}: {first['msg'].lower()}",
            "tokprof check --help",
        ) from error


def _known_noise(file: Path | None) -> Calibration:
    from tokprof.gate.calibration import read_calibration

    path = file or _usual_calibration()
    return read_calibration(path) if file or path.exists() else {}


def _usual_calibration() -> Path:
    from tokprof.measure.ceilings import cache_folder

    return cache_folder() / "calibration.json"


def _calibrate(cells: list[Cell], file: Path | None) -> None:
    from tokprof.gate.calibration import IN_TURNS, write_calibration
    from tokprof.gate.checking import calibrate
    from tokprof.gate.times import threshold_of
    from tokprof.measure.verdict import RULED_OUT

    path = file or _usual_calibration()
    found = calibrate(cells, _say)
    write_calibration(path, found)
    for of_device in found.values():
        for metrics in of_device.values():
            for metric, deviation in metrics.items():
                threshold = threshold_of(deviation, "in turns" if metric.endswith(IN_TURNS) else "apart")
                print(f"{metric:26} A/A deviation {deviation:.2%}, threshold {threshold:.2%}")
                if threshold > RULED_OUT:
                    _say(f"warning: too noisy to gate {metric}: run this on a quiet machine")
    print(f"written to {path}")


def _init(cells: list[Cell], *, yes: bool) -> None:
    from tokprof.gate.starter import refuse_to_overwrite, write_starter
    from tokprof.measure.apart import measure_apart

    refuse_to_overwrite(Path.cwd(), yes=yes)
    _say("measuring the baseline")
    for path in write_starter(Path.cwd(), measure_apart(cells)):
        print(f"written: {path}")


def _against_file(before: list[RunRecord], cells: list[Cell], tier: Tiers, known: Calibration) -> Outcome:
    from tokprof.gate.checking import against_file

    return against_file(before, cells, tier, known, _say)


def _against_reference(
    cells: list[Cell], reference: str, python: str | None, tier: Tiers, known: Calibration
) -> Outcome:
    from tokprof.gate.checking import against_reference
    from tokprof.gate.reference import base_place, head_place

    fixed = [cell.method.name for cell in cells if Path(cell.method.name).is_absolute()]
    if fixed:
        raise InputError(
            f"method {fixed[0]}: an absolute path is the same file for both", "name it from this folder: ./method.py"
        )
    with base_place(reference, Path.cwd(), python) as base:
        return against_reference(cells, base, head_place(Path.cwd()), tier, known, _say)


def _finish(outcome: Outcome, junit: Path | None, shape: str) -> None:
    from tokprof.gate.outputs import markdown, render, write_outputs

    if shape == "markdown":
        sys.stdout.write(markdown(outcome))
    else:
        from rich.console import Console

        Console(highlight=False).print(render(outcome))
    write_outputs(outcome, junit)
    raise typer.Exit(outcome.exit_code)


def _say(what: str) -> None:
    print(what, file=sys.stderr)
