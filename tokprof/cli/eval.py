"""`tokprof eval`: ask questions with known answers, the unpruned model and every method the same ones."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokprof.cli import flags

if TYPE_CHECKING:
    from tokprof.accuracy.evaluation import Evaluation
    from tokprof.accuracy.questions import QuestionSet
    from tokprof.resolve import Ready

ANSWER_TOKENS = 16
ASKED, SETTING, OUTPUT = "What is asked", "Where it runs", "Output"


def register(app: typer.Typer) -> None:
    app.command("eval")(command)


def command(
    model: Annotated[str, typer.Option(help="See `tokprof models`; a folder or a hub repository works too.")] = "demo",
    method: Annotated[
        str | None, typer.Option(help="One or several, with commas; without it the unpruned model alone.")
    ] = None,
    keep: Annotated[str | None, flags.KEEP] = None,
    set_: Annotated[list[str] | None, flags.SET] = None,
    questions: Annotated[
        Path | None,
        typer.Option(help="Your own questions, JSON lines; else the demo's held-out ones.", rich_help_panel=ASKED),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.", rich_help_panel=ASKED)] = None,
    new_tokens: Annotated[
        int, typer.Option(min=1, help="Longest answer, in tokens.", rich_help_panel=ASKED)
    ] = ANSWER_TOKENS,
    batch: Annotated[int | None, typer.Option(min=1, help="Questions at once.", rich_help_panel=SETTING)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.", rich_help_panel=SETTING)] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.", rich_help_panel=SETTING)] = "auto",
    attention: Annotated[str, typer.Option(help="sdpa, flash or eager.", rich_help_panel=SETTING)] = "sdpa",
    weights: Annotated[str, typer.Option(help="auto, random, hub, or a folder.", rich_help_panel=SETTING)] = "auto",
    json: Annotated[
        str | None,
        typer.Option("--json", help="Write answers and figures to this file, or to -.", rich_help_panel=OUTPUT),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Go on although it may take very long or much memory.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Accuracy per kind of question, beside tokens and FLOPs.

    tokprof eval --model demo --method todre,fastv,v2drop,random --keep 0.5,0.25,0.1
    """
    from tokprof.accuracy.asking import check_fits, question_set
    from tokprof.cli.running import check_output
    from tokprof.recipe import Method, Recipe, Setting
    from tokprof.resolve import refuse_the_hopeless, resolve

    given = {"device": device, "dtype": dtype, "attention": attention, "weights": weights}
    names, keeps = flags.words(method, "--method"), flags.numbers(keep, "--keep")
    grid = flags.method_grid(names, keeps, flags.assignments(set_ or ()))
    methods = [Method(name=name, parameters=parameters) for name, parameters in [("dense", {}), *grid]]
    recipe = Recipe(models=(model,), methods=tuple(methods), setting=flags.validated(Setting, given, "eval"))
    cells = resolve(recipe)
    asked = question_set(questions, limit, cells[0].entry)
    check_fits(cells, asked)
    check_output(json)
    refuse_the_hopeless(recipe, yes=yes)
    _show(_evaluated(cells, asked, batch, new_tokens), json)


def _evaluated(cells: list[Ready], asked: QuestionSet, batch: int | None, new_tokens: int) -> Evaluation:
    from tokprof.accuracy.asking import evaluate
    from tokprof.cli.progress import ProgressLine
    from tokprof.profiler import Listener

    with ProgressLine() as line:
        listener = Listener(on_stage=line.stage, on_note=line.note)
        return evaluate(cells, asked, batch=batch, new_tokens=new_tokens, listener=listener)


def _show(found: Evaluation, json_path: str | None) -> None:
    from tokprof.atomic import write_text_atomically

    text = dumps(found.as_data(), indent=1, ensure_ascii=False)
    if json_path == "-":
        print(text)
        return
    if json_path is not None:
        write_text_atomically(Path(json_path), text + "\n")
    from rich.console import Console

    from tokprof.accuracy.table import render

    console = Console(highlight=False)
    console.print(render(found, width=console.width))
