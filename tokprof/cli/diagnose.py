"""`tokprof diagnose`: at which layers visual tokens change, are looked at, and can go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
) -> None:
    """At which layers visual tokens change, are looked at, and can go (HiDivDrop's and VTW's layer searches).

    tokprof diagnose --model demo --image a.png --image b.png
    """
    import torch

    from tokprof.diagnose import diagnose as look
    from tokprof.models import load
    from tokprof.recipe import Workload
    from tokprof.resolve import chosen_device

    place = chosen_device(device)
    dtype = torch.bfloat16 if place.startswith("cuda") else torch.float32
    adapter = load(model, weights=weights, device=place, dtype=dtype)
    for note in adapter.notes:
        typer.echo(f"note: {note}", err=True)
    asked = [Workload(images=(str(path),), prompt=prompt) for path in image or ()]  # type: ignore[call-arg]
    found = look(
        adapter,
        [adapter.prepare(workload) for workload in asked or [Workload(prompt=prompt)]],  # type: ignore[call-arg]
        window=window,
        top=top,
    )
    if json:
        import json as writer
        from dataclasses import asdict

        typer.echo(writer.dumps({**asdict(found), "exit": found.exit_stop(eta, first)}, indent=1))
        return
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
    if not adapter.trained:
        console.print("! the weights are random: these numbers mean nothing")


def _listed(stops: list[int]) -> str:
    return ", ".join(map(str, stops)) or "none"
