"""`tokprof run`: measure methods side by side with the unpruned model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokprof.cli import flags
from tokprof.errors import InputError, ParameterError

if TYPE_CHECKING:
    from tokprof.recipe import Recipe

WORKLOAD, SETTING, MEASURING, OUTPUT = "What the model is asked", "Where it runs", "How it is measured", "Output"


def register(app: typer.Typer) -> None:
    app.command()(run)


def run(
    recipe_file: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A recipe (YAML); flags win over it.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="See `tokprof models`; a folder or a hub repository works too.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="One or several, with commas. See `tokprof methods`. A file works too.")
    ] = None,
    keep: Annotated[str | None, flags.KEEP] = None,
    tokens: Annotated[str | None, flags.TOKENS] = None,
    match: Annotated[
        str | None, typer.Option(help="Give all methods the budget of the first: layer-mean, flops or kv-bytes.")
    ] = None,
    set_: Annotated[list[str] | None, flags.SET] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture; may be repeated.", rich_help_panel=WORKLOAD)
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="A video, or a folder of frames.", rich_help_panel=WORKLOAD)
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="The question.", rich_help_panel=WORKLOAD)] = None,
    image_size: Annotated[
        str | None, typer.Option(help="Synthetic picture, as 640x480.", rich_help_panel=WORKLOAD)
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of the video.", rich_help_panel=WORKLOAD)] = None,
    anyres: Annotated[
        str | None, typer.Option(help="native, or fixed: the papers' constant 2880 tokens.", rich_help_panel=WORKLOAD)
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="Samples at once; several with commas.", rich_help_panel=WORKLOAD)
    ] = None,
    new_tokens: Annotated[
        str | None, typer.Option(help="Tokens to generate; several with commas.", rich_help_panel=WORKLOAD)
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.", rich_help_panel=SETTING)] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16 or float16.", rich_help_panel=SETTING)
    ] = None,
    attention: Annotated[str | None, typer.Option(help="sdpa, flash or eager.", rich_help_panel=SETTING)] = None,
    weights: Annotated[
        str | None, typer.Option(help="auto, random, hub, or a folder.", rich_help_panel=SETTING)
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(
            help="eager: also score the official way, to show its cost. Or: a file of accuracies to join, `published`.",
            rich_help_panel=SETTING,
        ),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Exactly so many rounds.", rich_help_panel=MEASURING)] = None,
    min_seconds: Annotated[
        float | None, typer.Option(help="Measure each pair at least so long.", rich_help_panel=MEASURING)
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="And at most so many seconds.", rich_help_panel=MEASURING)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of pictures, weights and the order of rounds.", rich_help_panel=MEASURING)
    ] = None,
    accuracy: Annotated[
        int | None,
        typer.Option(help="Bundled questions to ask, if the weights are real (demo: 240).", rich_help_panel=MEASURING),
    ] = None,
    parity: Annotated[
        bool,
        typer.Option(
            "--parity/--no-parity", help="First compare with the model's own forward.", rich_help_panel=MEASURING
        ),
    ] = True,
    energy: Annotated[
        bool, typer.Option("--energy", help="Joules per request, where NVML counts them.", rich_help_panel=MEASURING)
    ] = False,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="A process of its own for every method.", rich_help_panel=MEASURING)
    ] = False,
    json: Annotated[
        str | None,
        typer.Option("--json", help="Write the records to this file, or to - (stdout).", rich_help_panel=OUTPUT),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="table, markdown, csv or json.", rich_help_panel=OUTPUT)
    ] = "table",
    yes: Annotated[
        bool, typer.Option("--yes", help="Go on although it may take very long or much memory.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Measure methods side by side with the unpruned model.

    tokprof run --model demo --method todre,fastv --keep 0.25,0.1
    """
    from tokprof.cli.running import check_output, run_and_print

    given = {name: value for name, value in locals().items() if name not in ("check_output", "run_and_print")}
    join, given["scores"] = _scores(scores)
    recipe = recipe_of(given)
    check_output(json)
    run_and_print(recipe, json_path=json, shape=format_, join=join, official=scores == "eager", yes=yes)


def _scores(value: str | None) -> tuple[str | None, str | None]:
    """(accuracies to join, how attention scores are computed: where both ways are measured, ours at first)"""
    if value in ("minimal", "eager"):
        return None, "minimal"
    return value, None


def recipe_of(given: dict[str, Any]) -> Recipe:
    """Flags on top of a recipe file, or flags alone."""
    from tokprof.models import catalog
    from tokprof.recipe import Measurement, Method, Recipe, Setting, Workload
    from tokprof.recipe_file import locate, read_recipe

    base = read_recipe(locate(given["recipe_file"])) if given["recipe_file"] else None
    models = flags.words(given["model"], "--model") or (list(base.models) if base else ["demo"])
    names = flags.words(given["method"], "--method")
    if not names and base is None:
        raise InputError("which method?", "for example --method todre,fastv --keep 0.25; `tokprof methods` lists them")
    keeps = flags.numbers(given["keep"], "--keep")
    budgets = flags.numbers(given["tokens"], "--tokens")
    if not names and (keeps or given["set_"]):
        raise InputError("--keep and --set belong to --method, which the recipe's own methods are not", "add --method")
    if keeps and budgets:
        raise ParameterError("--keep and --tokens both say how much to keep", "give one of them")
    grid = flags.method_grid(names, keeps, flags.assignments(given["set_"] or ()))
    methods = [Method(name=name, parameters=parameters) for name, parameters in grid]
    if not methods and base is not None:
        methods = list(base.methods)
    batches = flags.numbers(given["batch"], "--batch", int) or [None]
    lengths = flags.numbers(given["new_tokens"], "--new-tokens", int) or [None]
    told = _told(
        images=tuple(str(path) for path in given["image"] or ()) or None,
        video=str(given["video"]) if given["video"] else None,
        prompt=given["prompt"],
        image_size=flags.size(given["image_size"], "--image-size"),
        frames=given["frames"],
        anyres=given["anyres"],
        seed=given["seed"],
    )
    workloads = [
        flags.validated(Workload, {**old.model_dump(), **told, **_told(batch=size, new_tokens=length)}, "run")
        for old in (base.workloads if base else [Workload()])  # type: ignore[call-arg]
        for size in batches
        for length in lengths
    ]
    setting = _told(**{name: given[name] for name in ("device", "dtype", "attention", "weights", "scores")})
    measurement = _told(**{name: given[name] for name in ("rounds", "min_seconds", "timeout", "seed", "accuracy")})
    if base is None and "accuracy" not in measurement:
        measurement["accuracy"] = max(catalog.find(name).questions for name in models)
    measurement |= {"parity": given["parity"], "energy": given["energy"], "isolate": given["isolate"]}
    recipe = Recipe(
        title=base.title if base else "",
        source=base.source if base else "",
        models=tuple(models),
        methods=tuple(methods),
        workloads=tuple(workloads),
        setting=flags.validated(Setting, {**(base.setting.model_dump() if base else {}), **setting}, "run"),
        measurement=flags.validated(
            Measurement, {**(base.measurement.model_dump() if base else {}), **measurement}, "run"
        ),
    )
    return _with_budgets(recipe, budgets, given["match"])


def _told(**values: Any) -> dict[str, Any]:
    """Only what was given."""
    return {name: value for name, value in values.items() if value is not None}


def _with_budgets(recipe: Recipe, layer_means: list[float], match: str | None) -> Recipe:
    if not layer_means and match is None:
        return recipe
    from tokprof.resolve import budgets_in_words, with_layer_means, with_matched_budgets

    if layer_means:
        recipe = with_layer_means(recipe, layer_means)
    if match is not None:
        recipe = with_matched_budgets(recipe, match)
        for line in budgets_in_words(recipe, match):
            typer.echo(f"equal {match}: {line}", err=True)
    return recipe
