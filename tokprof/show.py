"""Pictures with the dropped patches greyed: a pure function of layout, kept indices and pictures. No torch.

A token's rectangle is where its patch came from in the picture as it was before any resizing:
through the thumbnail, through tiles and their padding, through a centre crop, through a grid that was
pooled or merged, and from the smaller picture that a method asked for. A newline token shows nothing
and has no rectangle.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokprof.shapes import Block, ModelShape, VisualLayout

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels of the original picture; right and bottom are outside."""

FADED, TOWARDS = 0.6, 190  # how far a dropped patch fades, to which grey
PANEL_WIDTH = 340
FRAMES_SHOWN = 8
GAP, LINE = 10, 20
INK, PAPER, MARK = (28, 31, 35), (255, 255, 255), (213, 30, 30)


@dataclass(frozen=True)
class Stage:
    """What is left at one point: indices among all visual tokens. `marked`: a token worth a frame of its own."""

    title: str
    kept: Collection[int]
    marked: int | None = None


def token_boxes(
    block: Block, size: tuple[int, int], shape: ModelShape, seen: tuple[int, int] | None = None
) -> list[Box | None]:
    """The rectangle of each token of a block in its picture of (width, height), in sequence order.

    `seen`: the size at which the model was given that picture, where it was shrunk beforehand.
    """
    spans = _spans(block, seen or size, shape)
    counts = (block.cols, block.rows)
    across, down = (
        _even(count, span, given, original)
        for count, span, given, original in zip(counts, spans, seen or size, size, strict=True)
    )
    boxes: list[Box | None] = []
    for row, col in block.tokens():
        if col < 0:
            boxes.append(None)
            continue
        left, right, top, bottom = across[col], across[col + 1], down[row], down[row + 1]
        boxes.append((left, top, right, bottom) if right > left and bottom > top else None)
    return boxes


Span = tuple[float, float]


def _spans(block: Block, size: tuple[int, int], shape: ModelShape) -> tuple[Span, Span]:
    """From where to where a block looks at a picture, across and down, in pixels of that picture."""
    width, height = size
    if block.tiles > 1 or block.left or block.top:
        return _grid_spans(block, size, shape.vision.patch_px)
    if shape.tiling == "single":  # resized by its shorter side, then cut to the square in the middle
        side = min(size)
        return ((width - side) / 2, (width + side) / 2), ((height - side) / 2, (height + side) / 2)
    return (0, width), (0, height)


def _grid_spans(block: Block, size: tuple[int, int], patch_px: int) -> tuple[Span, Span]:
    """Through tiles: the picture was resized to fit, padded on both sides, and its padding cut off again."""
    width, height = size
    wide, tall = block.tile_cols * block.side * patch_px, block.tile_rows * block.side * patch_px
    if wide / width < tall / height:
        new_width, new_height = wide, min(math.ceil(height * wide / width), tall)
    else:
        new_width, new_height = min(math.ceil(width * tall / height), wide), tall

    def span(cut: int, whole: int, resized: int, original: int) -> Span:
        pad, scale = (whole - resized) // 2, original / resized
        return (cut * patch_px - pad) * scale, (whole - cut * patch_px - pad) * scale

    return span(block.left, wide, new_width, width), span(block.top, tall, new_height, height)


def _even(count: int, span: Span, given: int, original: int) -> list[int]:
    """`count` equal steps through a span of a picture of `given` pixels, as whole pixels of the original."""
    first, last = (end * original / given for end in span)
    return [min(max(round(first + (last - first) * step / count), 0), original) for step in range(count + 1)]


def greyed(picture: Image, boxes: Sequence[Box | None], kept: Collection[int], marked: int | None = None) -> Image:
    """Kept patches as they are, everything else grey and faded; a red frame around the marked one."""
    from PIL import Image, ImageDraw

    shown = Image.new("L", picture.size, 0)
    draw = ImageDraw.Draw(shown)
    for index in kept:
        box = boxes[index]
        if box is not None:
            draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
    faded = picture.convert("L").point([round(value * (1 - FADED) + TOWARDS * FADED) for value in range(256)])
    drawn = Image.composite(picture.convert("RGB"), faded.convert("RGB"), shown)
    frame = boxes[marked] if marked is not None else None
    if frame is not None:
        thickness = max(2, min(picture.size) // 120)
        place = (frame[0] - thickness, frame[1] - thickness, frame[2] + thickness - 1, frame[3] + thickness - 1)
        ImageDraw.Draw(drawn).rectangle(place, outline=MARK, width=thickness)
    return drawn


def as_seen(picture: Image, given: Image, boxes: Sequence[Box | None]) -> Image:
    """A picture that was shrunk for the model: as coarse as the model got it, with its patches' edges."""
    if given.size == picture.size:
        return picture
    from PIL import Image, ImageDraw

    coarse = given.resize(picture.size, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(coarse)
    for box in boxes:
        if box is not None:
            draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=PAPER)
    return coarse


def sheet(
    pictures: Sequence[Image],
    layout: VisualLayout,
    shape: ModelShape,
    stages: Sequence[Stage],
    title: str,
    answer: str = "",
    seen: Sequence[Image] | None = None,
) -> Image:
    """One row of panels per stage, one panel per block (thumbnail, grid, frame), the answer under them.

    `seen`: the pictures as the model was given them, where a method asked for smaller ones.
    """
    from PIL import Image, ImageDraw, ImageFont

    rows = [(stage, _panels(pictures, seen or pictures, layout, shape, stage)) for stage in stages]
    width = max(sum(panel.width + GAP for panel in panels) + GAP for _, panels in rows)
    lines = _wrapped([title], width) + (_wrapped([f"“{answer}”"], width) if answer else [])
    height = sum(max(panel.height for panel in panels) + LINE + GAP for _, panels in rows) + LINE * len(lines) + 2 * GAP
    canvas = Image.new("RGB", (width, height), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    down = GAP
    for line in _wrapped([title], width):
        draw.text((GAP, down), line, INK, font)
        down += LINE
    for stage, panels in rows:
        draw.text((GAP, down), stage.title, INK, font)
        down += LINE
        across = GAP
        for panel in panels:
            canvas.paste(panel, (across, down))
            across += panel.width + GAP
        down += max(panel.height for panel in panels) + GAP
    for line in _wrapped([f"“{answer}”"], width) if answer else []:
        draw.text((GAP, down), line, INK, font)
        down += LINE
    return canvas


def _wrapped(texts: Sequence[str], width: int) -> list[str]:
    from textwrap import wrap

    return [line for text in texts for line in wrap(text, max((width - 2 * GAP) // 7, 20))]


def _panels(
    pictures: Sequence[Image], seen: Sequence[Image], layout: VisualLayout, shape: ModelShape, stage: Stage
) -> list[Image]:
    starts = [sum(block.count for block in layout.blocks[:index]) for index in range(len(layout.blocks))]
    video = len({block.frame for block in layout.blocks}) > 1
    count = len(layout.blocks)
    shown = (
        range(count) if not video or count <= FRAMES_SHOWN else [i * count // FRAMES_SHOWN for i in range(FRAMES_SHOWN)]
    )
    panels = []
    for index in shown:
        block, start = layout.blocks[index], starts[index]
        which = block.frame if video else block.image
        picture, given = pictures[which], seen[which]
        inside = [token - start for token in stage.kept if start <= token < start + block.count]
        marked = (
            stage.marked - start if stage.marked is not None and start <= stage.marked < start + block.count else None
        )
        boxes = token_boxes(block, picture.size, shape, given.size)
        drawn = greyed(as_seen(picture, given, boxes), boxes, inside, marked)
        width = PANEL_WIDTH // 2 if block.thumbnail or video else PANEL_WIDTH
        panels.append(drawn.resize((width, max(1, round(width * picture.height / picture.width)))))
    return panels
