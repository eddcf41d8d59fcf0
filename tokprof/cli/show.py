"""`tokprof show`: which patches a method keeps, on the picture itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokprof.cli import flags
from tokprof.errors import InputError

DEFAULT_KEEP = "0.25"


def register(app: typer.Typer) -> None:
    app.command()(show)


def show(
    image: Annotated[Path | None, typer.Option(help="A picture; a bundled one without it.")] = None,
    video: Annotated[Path | None, typer.Option(help="A video, or a folder of frames.")] = None,
    method: Annotated[str, typer.Option(help="One or several, with commas.")] = "todre",
    keep: Annotated[str, flags.KEEP] = DEFAULT_KEEP,
    set_: Annotated[list[str] | None, flags.SET] = None,
    model: Annotated[str, typer.Option(help="See `tokprof models`.")] = "demo",
    prompt: Annotated[str | None, typer.Option(help="The question.")] = None,
    weights: Annotated[str, typer.Option(help="auto, random, hub, or a folder.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures.")] = Path("."),
    yes: Annotated[bool, typer.Option("--yes", help="Go on although the model is large for a CPU.")] = False,
) -> None:
    """Draw what each method keeps: dropped patches grey, one panel per stage.

    tokprof show --image photo.jpg --method todre,fastv --keep 0.1
    """
    from tokprof.cli.running import check_output
    from tokprof.recipe import Method, Recipe, Setting, Workload
    from tokprof.resolve import refuse_the_hopeless, resolve

    names = flags.words(method, "--method")
    if not names:
        raise InputError("which method?", "for example --method todre,fastv")
    grid = flags.method_grid(names, flags.numbers(keep, "--keep"), flags.assignments(set_ or ()))
    workload = Workload(images=(str(image),) if image else (), video=str(video) if video else None, prompt=prompt)  # type: ignore[call-arg]
    recipe = Recipe(
        models=(model,),
        methods=tuple(Method(name=name, parameters=parameters) for name, parameters in grid),
        workloads=(workload,),
        setting=Setting(device=device, weights=weights),
    )
    cells = resolve(recipe)
    refuse_the_hopeless(recipe, yes=yes)
    check_output(str(output / "picture.png"))
    from tokprof.showing import draw_all

    for path, answer in draw_all(cells, output):
        print(f"{path}{f': {answer}' if answer else ''}")
