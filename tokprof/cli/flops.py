"""`tokprof flops`: what a method costs, from integers alone, and the same counted on the real modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokprof.cli import flags
from tokprof.errors import InputError, ParameterError, UnknownNameError

if TYPE_CHECKING:
    from tokprof.flops.planning import Case, Prompt
    from tokprof.models.catalog import Entry

PROMPT, SHOWN = "The prompt", "What is shown"
CAUSAL, HEAD = ("full", "half"), ("last", "all")


def register(app: typer.Typer) -> None:
    app.command()(flops)


@dataclass(frozen=True)
class Asked:
    """The flags, parsed."""

    entry: Entry
    prompt: Prompt
    methods: list[tuple[str, dict[str, Any]]]
    conventions: list[str]
    causal: Any
    head: Any


def flops(
    model: Annotated[str | None, typer.Option(help="See `tokprof models`; a folder works too.")] = None,
    method: Annotated[str | None, typer.Option(help="One or several, with commas. See `tokprof methods`.")] = None,
    keep: Annotated[str | None, flags.KEEP] = None,
    tokens: Annotated[str | None, flags.TOKENS] = None,
    set_: Annotated[list[str] | None, flags.SET] = None,
    image_size: Annotated[
        str | None, typer.Option(help="Width x height of the picture, as 640x480.", rich_help_panel=PROMPT)
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a video instead.", rich_help_panel=PROMPT)] = None,
    visual: Annotated[int | None, typer.Option(help="Visual tokens instead.", rich_help_panel=PROMPT)] = None,
    text: Annotated[int, typer.Option(help="Text tokens.", rich_help_panel=PROMPT)] = 64,
    new_tokens: Annotated[int, typer.Option(help="Tokens to generate.", rich_help_panel=PROMPT)] = 20,
    batch: Annotated[int, typer.Option(help="Samples at once.", rich_help_panel=PROMPT)] = 1,
    convention: Annotated[
        str | None, typer.Option(help="todre, hidivdrop, exact; default all.", rich_help_panel=SHOWN)
    ] = None,
    causal: Annotated[
        str,
        typer.Option(
            help="full: attention as a dense kernel computes it; half: as a causal one.", rich_help_panel=SHOWN
        ),
    ] = "full",
    head: Annotated[
        str, typer.Option(help="Logits of the last prompt position, or of all.", rich_help_panel=SHOWN)
    ] = "last",
    per_layer: Annotated[bool, typer.Option("--per-layer", help="Layer by layer.", rich_help_panel=SHOWN)] = False,
    compare: Annotated[bool, typer.Option("--compare", help="One line per method.", rich_help_panel=SHOWN)] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="The formulas with the numbers put in.", rich_help_panel=SHOWN)
    ] = False,
    count: Annotated[
        bool, typer.Option("--count", help="Count the real modules on the meta device too.", rich_help_panel=SHOWN)
    ] = False,
    fvcore: Annotated[
        bool, typer.Option("--fvcore", help="With --count: fvcore's opinion as well.", rich_help_panel=SHOWN)
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="The papers' own FLOPs beside ours.", rich_help_panel=SHOWN)
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON.", rich_help_panel=SHOWN)] = False,
) -> None:
    """FLOPs, bytes and tokens per layer of methods, without running anything.

    tokprof flops --model llava-next-7b --method todre,fastv --keep 0.1,0.25
    """
    if published:
        _print_published(json)
        return
    if fvcore and not count:
        raise InputError("--fvcore is a second opinion on --count", "add --count")
    if count and head == "all":
        raise InputError("--count runs the engine, whose head sees the last position only", "leave out --head all")
    asked = _asked(
        model=model,
        method=method,
        keep=keep,
        tokens=tokens,
        set_=set_,
        image_size=image_size,
        prompt={"frames": frames, "visual": visual, "text": text, "new_tokens": new_tokens, "batch": batch},
        convention=convention,
        causal=causal,
        head=head,
    )
    cases = _cases(asked)
    counted = _counted(asked, cases, fvcore) if count else []
    if json:
        _print_json(asked, cases, counted)
        return
    _print_tables(asked, cases, per_layer=per_layer, compare=compare, explain=explain, counted=counted)


def _asked(
    *,
    model: str | None,
    method: str | None,
    keep: str | None,
    tokens: str | None,
    set_: list[str] | None,
    image_size: str | None,
    prompt: dict[str, Any],
    convention: str | None,
    causal: str,
    head: str,
) -> Asked:
    from tokprof.flops.analytic import CONVENTIONS
    from tokprof.flops.planning import Prompt
    from tokprof.models import catalog

    if model is None:
        raise InputError("which model?", "for example --model llava-next-7b; `tokprof models` lists them")
    conventions = flags.words(convention, "--convention") or list(CONVENTIONS)
    for name in conventions:
        if name not in CONVENTIONS:
            raise UnknownNameError("FLOPs convention", name, CONVENTIONS)
    for flag, value, choices in (("--causal", causal, CAUSAL), ("--head", head, HEAD)):
        if value not in choices:
            raise ParameterError(f"{flag} {value!r}", f"one of {', '.join(choices)}")
    entry = catalog.find(model)
    asked = Prompt(size=flags.size(image_size, "--image-size"), **prompt)
    keeps, budgets = flags.numbers(keep, "--keep"), flags.numbers(tokens, "--tokens")
    if keeps and budgets:
        raise ParameterError("--keep and --tokens both say how much to keep", "give one of them")
    names = flags.words(method, "--method")
    if (keeps or budgets or set_) and not names:
        raise InputError("which method?", "for example --method todre,fastv; `tokprof methods` lists them")
    grid = flags.method_grid(names, keeps, flags.assignments(set_ or ()))
    if budgets:
        grid = [(name, _solved(entry, asked, name, given, mean)) for name, given in grid for mean in budgets]
    return Asked(entry, asked, grid, conventions, causal, head)


def _solved(entry: Entry, prompt: Prompt, name: str, given: dict[str, Any], layer_mean: float) -> dict[str, Any]:
    """The method's parameters with the `keep` that gives this layer mean."""
    from tokprof import policies
    from tokprof.budget import solve
    from tokprof.flops.planning import scene_of

    if layer_mean <= 0:
        raise ParameterError(f"--tokens {layer_mean:g}", "visual tokens on the mean over layers, such as 192")
    own = {key: value for key, value in given.items() if key != "keep"}
    found = solve(policies.find(name), own, scene_of(entry, prompt), "layer-mean", layer_mean, published=True)
    return {**own, "keep": found.policy.keep}


def _cases(asked: Asked) -> list[Case]:
    """The dense model first."""
    from tokprof.flops.planning import case, dense

    switches = {"causal": asked.causal, "head": asked.head}
    cases = [dense(asked.entry, asked.prompt, **switches)]
    methods = [(name, given) for name, given in asked.methods if name != "dense"]
    return cases + [case(asked.entry, name, given, asked.prompt, **switches) for name, given in methods]


def _counted(asked: Asked, cases: list[Case], fvcore: bool) -> list[Any]:
    from rich.console import Console

    from tokprof.flops.residuals import residuals

    with Console(stderr=True).status(f"counting {len(cases)} requests on the meta device"):
        return residuals(asked.entry, asked.prompt, cases, second_opinion=fvcore)


def _print_tables(
    asked: Asked, cases: list[Case], *, per_layer: bool, compare: bool, explain: bool, counted: list[Any]
) -> None:
    from rich.console import Console

    from tokprof.report import counted_table, flops_table

    console = Console(highlight=False, soft_wrap=False)
    console.print(flops_table.about(cases))
    console.print()
    blocks: list[Any] = []
    if compare:
        blocks += flops_table.compared(cases)
    elif not counted:
        for convention in asked.conventions:
            blocks += flops_table.parts(convention, cases)
        blocks += flops_table.memory(cases)
    for convention in asked.conventions:
        for case in cases:
            blocks += flops_table.per_layer(case, convention) if per_layer else []
            blocks += flops_table.formulas(case, convention) if explain else []
    for found in counted:
        blocks += counted_table.render(found)
    for block in blocks:
        console.print(block)


def _print_json(asked: Asked, cases: list[Case], counted: list[Any]) -> None:
    import json

    from tokprof.report import counted_table, flops_table

    scene = cases[0].asked.scene
    data: dict[str, Any] = {
        "model": scene.model.name,
        "visual": scene.layout.count,
        "newlines": scene.layout.newlines,
        "text": scene.text,
        "text_after": scene.text_after,
        "batch": scene.batch,
        "new_tokens": asked.prompt.new_tokens,
        "causal": asked.causal,
        "head": asked.head,
        "methods": [flops_table.as_data(case) for case in cases],
    }
    if counted:
        data["counted"] = [counted_table.as_data(found) for found in counted]
    print(json.dumps(data, indent=1))


def _print_published(as_json: bool) -> None:
    import json

    from rich.console import Console

    from tokprof.report import published_table

    if as_json:
        print(json.dumps(published_table.as_data(), indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False)
    for block in published_table.render():
        console.print(block)
