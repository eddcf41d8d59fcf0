"""`tokprof models`: every known model with its dimensions and visual tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from tokprof.models.listing import Line

WIDE = 158  # columns from which on more dimensions are shown
WIDE_HEADINGS = ("heads", "ffn", "tower")
LEGEND = "tokens: visual tokens of the default picture, video: of so many frames; decoder: layers × width"
WIDE_LEGEND = "; heads: query/key; ffn: width of the feed-forward layer; tower: blocks run/present × width"
OTHERS = "Any folder or repository of these families works too: tokprof run --model ./my-llava"


def register(app: typer.Typer) -> None:
    app.command(name="models")(models)


def models(
    name: Annotated[str | None, typer.Argument(help="One model, a folder, or a repository in the hub's cache.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Every dimension, as JSON on standard output.")] = False,
) -> None:
    """List the models: dimensions, visual tokens, where the weights are."""
    from tokprof.models.catalog import entries, find
    from tokprof.models.listing import line

    lines = [line(entry) for entry in (entries() if name is None else [find(name)])]
    if json:
        import json as writer

        typer.echo(writer.dumps([each.as_json() for each in lines], indent=2))
        return
    from rich.console import Console

    console = Console()
    wide = console.width >= WIDE
    console.print(table(lines, wide=wide))
    legend = LEGEND + (WIDE_LEGEND if wide else "; --json has every dimension")
    console.print(f"\n{legend}. {OTHERS}", style="dim", highlight=False)


def table(lines: list[Line], *, wide: bool) -> Table:
    from rich.table import Table

    from tokprof.units import count

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    shown.add_column("model", no_wrap=True, style="bold")
    for heading in ("weights", "tokens", "picture", "video", "decoder", *(WIDE_HEADINGS if wide else ())):
        shown.add_column(heading, justify="right", no_wrap=True)
    if wide:
        shown.add_column("on the hub", no_wrap=True)
    for each in lines:
        entry, decoder, vision = each.entry, each.entry.shape.decoder, each.entry.shape.vision
        video = "–" if each.video_tokens is None else f"{count(each.video_tokens)}/{entry.shape.default_frames} fr."
        cells = [
            entry.name,
            _billions(each.parameters),
            count(each.tokens),
            "×".join(str(side) for side in entry.picture),
            video,
            f"{decoder.depth} × {decoder.width}",
        ]
        if wide:
            tower = f"{vision.kind} {vision.layers_run}/{vision.depth} × {vision.width}"
            cells += [f"{decoder.heads}/{decoder.kv_heads}", str(decoder.ffn), tower, entry.repository or "–"]
        shown.add_row(*cells)
    return shown


def _billions(parameters: int) -> str:
    from tokprof.units import number

    return f"{number(parameters / 1e9)} B" if parameters >= 1e8 else f"{number(parameters / 1e6)} M"
