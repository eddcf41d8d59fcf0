"""The papers' FLOPs beside ours, under the one convention that fits a paper best. No torch.

Each paper is read in every convention; the one whose worst residual over that paper's figures is the
smallest is shown. What then still misses by more than 2 % is said to be not reproducible, with the
reason. docs/flops.md tells the whole story.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tokprof import published
from tokprof.flops.analytic import Request, equation_1, equation_2, exact, hidivdrop, todre
from tokprof.layout import image_layout
from tokprof.models import catalog
from tokprof.policies.base import Plan, Scene
from tokprof.published import Cell
from tokprof.shapes import ModelShape, VisualLayout

CLOSE = 0.02
VISIONDROP_TEXT = 66  # fitted to its four figures, not printed


def _prefill_flops(asked: Request) -> int:
    return exact(asked).parts["prefill"]


def _everything(asked: Request) -> int:
    return exact(asked).total


READINGS: dict[str, tuple[Callable[[Request], int], int]] = {
    "hidivdrop: MACs, visual tokens": (lambda asked: hidivdrop(asked).total, 0),
    "todre: MACs of eq. 1, visual tokens": (lambda asked: todre(asked).parts["prefill"], 0),
    "todre × 2: FLOPs of eq. 1, visual tokens": (lambda asked: 2 * todre(asked).parts["prefill"], 0),
    "exact: FLOPs of the decoder, visual tokens": (_prefill_flops, 0),
    "exact: FLOPs of everything, head on all positions, 66 text tokens": (_everything, VISIONDROP_TEXT),
}
"""What a reading counts, and how many text tokens it adds."""

REASONS = {
    ("todre", "vanilla"): "FLOPs of the linear layers alone are 37.3 T at 2880 tokens; about 2205 tokens (unpadded "
    "POPE pictures?) without attention would fit, which is a guess",
    ("todre", "fastervlm"): "about 258 tokens instead of the printed 288 would fit, which is a guess",
    ("todre", "globalcom2"): "about 258 tokens instead of the printed 288 would fit, which is a guess",
    ("todre", "todre"): "as FasterVLM's; its 0.1 T less means that stage 2 fires in the last layer, or rarely",
    ("todre", "fastv"): "with the 2205 and 258 tokens of that guess, not with the printed 2880 and 288 of "
    "this row, 3 full layers in front are 3 % too many FLOPs and 2 are 4 to 6 % too few",
    ("todre", "sparsevlm"): "its schedule on LLaVA-NeXT is not published",
}
NOTES = {
    ("hidivdrop", "hidivdrop"): "schedule inferred from the mean of 64, not published",
    ("visiondrop", "visiondrop", "llava-next-7b"): "only with 48 more tokens per layer than printed; 8 % less without",
    ("visiondrop", "vanilla", "llava-next-7b"): "2928 tokens: 5 × 576 and 48 newline tokens",
}
SCHEDULES = {
    ("hidivdrop", "pdrop"): "270 average",
    ("hidivdrop", "hidivdrop"): "64 (A)",
    ("visiondrop", "visiondrop", "llava-1.5-7b"): "64",
    ("visiondrop", "visiondrop", "llava-next-7b"): "320",
}
FASTV_FULL_LAYERS = 2


@dataclass(frozen=True)
class Comparison:
    """A printed figure in tera-operations beside ours. `computed` is None where nothing can be computed."""

    cell: Cell
    reading: str
    computed: float | None
    verdict: str

    @property
    def residual(self) -> float | None:
        return None if self.computed is None else self.computed / self.cell.value - 1


def comparisons() -> list[Comparison]:
    """Every FLOPs figure of the papers."""
    found = []
    for paper in published.PAPERS:
        cells = [cell for cell in published.cells(paper) if cell.metric == "flops"]
        if cells:
            reading = min(READINGS, key=lambda name: _worst_residual(name, cells))
            found += [_compare(cell, reading) for cell in cells]
    return found


def _worst_residual(reading: str, cells: list[Cell]) -> float:
    residuals = [abs(computed / cell.value - 1) for cell in cells if (computed := _compute(cell, reading)) is not None]
    return max(residuals)


def _compare(cell: Cell, reading: str) -> Comparison:
    computed = _compute(cell, reading)
    key = (cell.paper, cell.method)
    note = NOTES.get((*key, cell.model)) or NOTES.get(key, "")
    off = abs(computed - cell.value) if computed is not None else float("inf")
    if off <= cell.half_step:
        verdict = "reproduced to the printed digits"
    elif off <= CLOSE * cell.value:
        verdict = "reproduced within 2 %"
    else:
        verdict = f"not reproducible: {REASONS[key]}"
    return Comparison(cell, reading, computed, f"{verdict}; {note}" if note else verdict)


def _compute(cell: Cell, reading: str) -> float | None:
    layers = _layers(cell)
    if layers is None:
        return None
    count, text = READINGS[reading]
    scene = Scene(model=_shape(cell), layout=_layout(cell), text=text, text_after=0)
    return count(Request(scene=scene, plan=Plan(layers=layers), new_tokens=1, head="all")) / 1e12


def _shape(cell: Cell) -> ModelShape:
    return catalog.find(cell.model).shape


def _layout(cell: Cell) -> VisualLayout:
    """The papers' square pictures: 576 tokens a tile."""
    shape = _shape(cell)
    size = (2 * shape.vision.image_px, 2 * shape.vision.image_px)
    return image_layout(shape, [size], "fixed" if cell.paper == "todre" else "native")


def _layers(cell: Cell) -> tuple[int, ...] | None:
    """Visual tokens entering each layer, as far as the paper or its code says."""
    depth = _shape(cell).decoder.depth
    full = _layout(cell).count
    kept = round(cell.tokens or full)
    if cell.method == "vanilla":
        return (full,) * depth
    key = (cell.paper, cell.method)
    label = SCHEDULES.get((*key, cell.model)) or SCHEDULES.get(key)
    if label is not None:
        newlines = _layout(cell).newlines
        model = "llava-1.5-7b" if cell.method == "pdrop" else cell.model
        return tuple(round(count) + newlines for count in published.schedule(cell.method, model, label))
    if cell.method == "sparsevlm":
        return None
    first = FASTV_FULL_LAYERS if cell.method == "fastv" else 0
    return (full,) * first + (kept,) * (depth - first)


@dataclass(frozen=True)
class StageRatio:
    """ToDRE's encoding : prefilling : decoding at n = 3000 and 20 outputs, its eq. 1 and 2."""

    model: str
    printed: tuple[float, float, float]
    computed: tuple[float, float, float]  # with the encoder of five 577-token tiles that LLaVA-NeXT runs

    @property
    def prefill_per_decode(self) -> tuple[float, float]:
        return self.printed[1] / self.printed[2], self.computed[1] / self.computed[2]


def stage_ratios() -> list[StageRatio]:
    printed = {"llava-next-7b": (1.0, 63.6, 0.4), "llava-next-13b": (1.0, 121.1, 0.8)}
    return [StageRatio(model, ratio, _stage_ratio(model, n=3000, outputs=20)) for model, ratio in printed.items()]


def _stage_ratio(model: str, *, n: int, outputs: int) -> tuple[float, float, float]:
    shape = catalog.find(model).shape
    decoder, vision = shape.decoder, shape.vision
    encode = 5 * vision.depth * equation_1(vision.tokens, vision.width, vision.ffn)
    prefill = decoder.depth * equation_1(n, decoder.width, decoder.ffn)
    decode = decoder.depth * equation_2(n, decoder.width, decoder.ffn, outputs)
    return 1.0, prefill / encode, decode / encode
