"""`tokprof diagnose`: at which layers visual tokens change, are looked at, and can go."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokprof.errors import ParameterError

if TYPE_CHECKING:
    from tokprof.diagnose import Diagnosis


def register(app: typer.Typer) -> None:
    app.command()(diagnose)


def diagnose(
    model: Annotated[str, typer.Option(help="See `tokprof models`.")] = "demo",
    image: Annotated[list[Path] | None, typer.Option(help="Pictures to look at; may be repeated.")] = None,
    prompt: Annotated[str | None, typer.Option(help="The question.")] = None,
    weights: Annotated[str, typer.Option(help="auto, random, hub, or a folder.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    eta: Annotated[float, typer.Option(help="Largest divergence that VTW's exit may cause.")] = 0.003,
    first: Annotated[int, typer.Option(help="First layer at which the exit is looked for.")] = 5,
    window: Annotated[int, typer.Option(help="Layers between the two sides of HiDivDrop's ILVAS.")] = 4,
    top: Annotated[int, typer.Option(help="Most attended visual tokens that ILVAS compares.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="The numbers as JSON.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go on although the model is large for a CPU.")] = False,
) -> None:
    """At which layers visual tokens change, are looked at, and can go (HiDivDrop's and VTW's layer searches).

    tokprof diagnose --model demo --image a.png --image b.png
    """
    from tokprof.cli import flags
    from tokprof.recipe import Method, Recipe, Setting, Workload
    from tokprof.resolve import chosen_device, refuse_the_hopeless

    _check_numbers(eta=eta, first=first, window=window, top=top)
    pictures: list[tuple[str, ...]] = [(str(path),) for path in image or ()] or [()]
    asked = [flags.validated(Workload, {"images": images, "prompt": prompt}, "diagnose") for images in pictures]
    setting = Setting(device=device, weights=weights)
    recipe = Recipe(models=(model,), methods=(Method(name="dense"),), workloads=tuple(asked), setting=setting)
    refuse_the_hopeless(recipe, yes=yes)  # it reads the pictures too
    import torch

    from tokprof.diagnose import diagnose as look
    from tokprof.models import load

    place = chosen_device(device)
    dtype = torch.bfloat16 if place.startswith("cuda") else torch.float32
    adapter = load(model, weights=weights, device=place, dtype=dtype)
    for note in adapter.notes:
        typer.echo(f"note: {note}", err=True)
    found = look(adapter, [adapter.prepare(workload) for workload in asked], window=window, top=top)
    if json:
        import json as writer
        from dataclasses import asdict

        typer.echo(writer.dumps({**asdict(found), "exit": found.exit_stop(eta, first)}, indent=1))
        return
    _print(found, eta, first)
    if not adapter.trained:
        typer.echo("! the weights are random: these numbers mean nothing")


def _print(found: Diagnosis, eta: float, first: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from tokprof.units import number, share

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("after layers", "visual change", "text change", "on visual", "ILVAS", "KL if all go"):
        table.add_column(title, justify="right")
    rows = zip(found.stops, found.visual_change, found.text_change, found.visual_attention, found.ilvas, strict=True)
    for (stop, visual, text, attention, similar), lost in zip(rows, found.withdrawal, strict=True):
        table.add_row(str(stop), number(visual), number(text), share(attention), number(similar), number(lost))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"\nvisual change peaks (HiDivDrop: enter here): {_listed(found.entry_stops)}\n"
        f"ILVAS peaks (HiDivDrop: filter here): {_listed(found.filter_stops)}\n"
        f"exit (VTW, eta {eta:g}): {found.exit_stop(eta, first)}"
    )


def _check_numbers(*, eta: float, first: int, window: int, top: int) -> None:
    if not (math.isfinite(eta) and eta >= 0):
        raise ParameterError(f"--eta {eta:g}", "a divergence from 0 on, such as 0.003")
    for flag, value in (("first", first), ("window", window), ("top", top)):
        if value < 1:
            raise ParameterError(f"--{flag} {value}", "a whole number from 1 on")


def _listed(stops: list[int]) -> str:
    return ", ".join(map(str, stops)) or "none"
