"""Deterministic pictures: coloured shapes and one digit on a textured background.

A scene is a square grid of 48-pixel cells. Every object sits somewhere inside its own cell, so
nothing overlaps; everything else (which cells, sizes, colours, texture) is drawn from one generator.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tokprof.demo.words import COLOURS, COLUMNS, DIGITS, ROWS, SHAPES

CELL_PX = 48
LARGE_RADIUS_PX = (13.0, 18.0)
SMALL_RADIUS_PX = (4.5, 7.0)
LARGE_DIGIT_PX = 20
SMALL_DIGIT_PX = 10
SMALL_SHARE = 0.4
_OVERSAMPLING = 4

_GLYPHS = {
    "0": ".###. #...# #..## #.#.# ##..# #...# .###.",
    "1": "..#.. .##.. ..#.. ..#.. ..#.. ..#.. .###.",
    "2": ".###. #...# ....# ..##. .#... #.... #####",
    "3": "####. ....# ....# .###. ....# ....# ####.",
    "4": "...#. ..##. .#.#. #..#. ##### ...#. ...#.",
    "5": "##### #.... ####. ....# ....# #...# .###.",
    "6": ".###. #.... #.... ####. #...# #...# .###.",
    "7": "##### ....# ...#. ..#.. ..#.. .#... .#...",
    "8": ".###. #...# #...# .###. #...# #...# .###.",
    "9": ".###. #...# #...# .#### ....# ....# .###.",
}


@dataclass(frozen=True)
class Thing:
    """A coloured shape, or the digit (`colour` empty, `shape` its numeral)."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    small: bool


@dataclass(frozen=True)
class Scene:
    side_px: int
    things: tuple[Thing, ...]
    digit: Thing

    def quadrant(self, thing: Thing) -> str:
        middle = self.side_px / 2
        return f"{ROWS[thing.y > middle]} {COLUMNS[thing.x > middle]}"


def draw_scene(rng: np.random.Generator, cells: int = 4, small_share: float = SMALL_SHARE) -> Scene:
    """Choose what is where. Half of the scenes favour one shape, half one colour: things to count."""
    count = int(rng.integers(3, 8)) if cells > 2 else int(rng.integers(1, 4))
    chosen = rng.permutation(cells * cells)[: count + 1]
    shapes = _with_favourite(rng, count, len(SHAPES))
    colours = _with_favourite(rng, count, len(COLOURS))
    names = tuple(COLOURS)
    things = []
    for cell, shape, colour in zip(chosen, shapes, colours, strict=False):
        small = bool(rng.random() < small_share)
        radius = float(rng.uniform(*(SMALL_RADIUS_PX if small else LARGE_RADIUS_PX)))
        x, y = _place(rng, int(cell), cells, radius)
        things.append(Thing(SHAPES[shape], names[colour], x, y, radius, small))
    small = bool(rng.random() < small_share)
    radius = (SMALL_DIGIT_PX if small else LARGE_DIGIT_PX) / 2
    x, y = _place(rng, int(chosen[-1]), cells, radius)
    digit = Thing(DIGITS[int(rng.integers(10))], "", x, y, radius, small)
    return Scene(cells * CELL_PX, tuple(things), digit)


def paint(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Paint the scene, RGB; the generator decides background, texture and shades."""
    canvas = _background(scene.side_px, rng)
    for thing in (*scene.things, scene.digit):
        shade = rng.integers(-12, 13, size=3)
        rgb = np.clip(np.array(COLOURS.get(thing.colour, (22, 22, 22))) + shade, 0, 255)
        turn = float(rng.uniform(-0.2, 0.2))
        mask, left, top = _mask(thing, turn)
        canvas.paste((int(rgb[0]), int(rgb[1]), int(rgb[2])), (left, top), mask)
    return canvas


def _with_favourite(rng: np.random.Generator, count: int, kinds: int) -> list[int]:
    values = rng.integers(kinds, size=count)
    if rng.random() < 0.5:
        values[rng.random(count) < 0.5] = rng.integers(kinds)
    return [int(value) for value in values]


def _place(rng: np.random.Generator, cell: int, cells: int, radius: float) -> tuple[float, float]:
    row, column = divmod(cell, cells)
    room = CELL_PX / 2 - radius - 2
    dx, dy = rng.uniform(-room, room, size=2)
    return (column + 0.5) * CELL_PX + float(dx), (row + 0.5) * CELL_PX + float(dy)


def _background(side_px: int, rng: np.random.Generator) -> Image.Image:
    """A smooth, greyish colour field, stripes in one direction, fine noise."""
    tint = rng.integers(-20, 21, size=(4, 4, 3)) + rng.integers(-35, 36, size=(4, 4, 1))
    coarse = Image.fromarray((tint + rng.integers(100, 141)).astype(np.uint8))
    field = coarse.resize((side_px, side_px), Image.Resampling.BICUBIC)
    angle, wavelength = rng.uniform(0, math.pi), rng.uniform(6, 30)
    phase, strength = rng.uniform(0, 2 * math.pi), rng.uniform(2, 16)
    pixel = np.arange(side_px, dtype=np.float32) * np.float32(2 * math.pi / wavelength)
    wave = np.sin(pixel[None, :] * np.cos(angle) + pixel[:, None] * np.sin(angle) + phase)
    noise = rng.integers(-12, 13, size=(side_px, side_px, 1), dtype=np.int8)
    values = np.asarray(field, dtype=np.float32) + strength * wave[:, :, None] + noise
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _mask(thing: Thing, turn: float) -> tuple[Image.Image, int, int]:
    """An antialiased mask of the thing and the pixel at which its upper left corner goes."""
    left, top = math.floor(thing.x - thing.radius) - 1, math.floor(thing.y - thing.radius) - 1
    side = 2 * math.ceil(thing.radius) + 4
    if not thing.colour:
        glyph = _glyph(thing.shape)
        height = round(2 * thing.radius)
        size = (round(height * 5 / 7), height)
        mask = Image.new("L", (side, side))
        scaled = glyph.resize(size, Image.Resampling.BICUBIC)
        mask.paste(scaled, ((side - size[0]) // 2, (side - size[1]) // 2))
        return mask, left, top
    big = Image.new("L", (side * _OVERSAMPLING, side * _OVERSAMPLING))
    centre = ((thing.x - left) * _OVERSAMPLING, (thing.y - top) * _OVERSAMPLING)
    _draw_shape(ImageDraw.Draw(big), thing.shape, centre, thing.radius * _OVERSAMPLING, turn)
    return big.resize((side, side), Image.Resampling.BOX), left, top


def _draw_shape(pen: ImageDraw.ImageDraw, shape: str, centre: tuple[float, float], radius: float, turn: float) -> None:
    x, y = centre
    if shape in ("circle", "ring"):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        if shape == "ring":
            hole = radius * 0.55
            pen.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
        return
    outline = [
        (
            x + radius * reach * math.sin(angle + turn),
            y - radius * reach * math.cos(angle + turn),
        )
        for angle, reach in _OUTLINES[shape]
    ]
    pen.polygon(outline, fill=255)


def _regular(corners: int, start: float = 0.0) -> list[tuple[float, float]]:
    return [(start + 2 * math.pi * corner / corners, 1.0) for corner in range(corners)]


def _star() -> list[tuple[float, float]]:
    return [(math.pi * corner / 5, 1.0 if corner % 2 == 0 else 0.42) for corner in range(10)]


def _cross() -> list[tuple[float, float]]:
    """Twelve corners of a plus sign whose bars are 0.6 of the radius wide."""
    corners = []
    for quarter in range(4):
        for forward, sideways in ((0.95, -0.3), (0.95, 0.3), (0.3, 0.3)):
            angle = math.atan2(sideways, forward) + quarter * math.pi / 2
            corners.append((angle, math.hypot(forward, sideways)))
    return corners


_OUTLINES = {
    "square": _regular(4, math.pi / 4),
    "triangle": _regular(3),
    "star": _star(),
    "cross": _cross(),
}


@functools.cache
def _glyph(numeral: str) -> Image.Image:
    rows = _GLYPHS[numeral].split()
    bits = np.array([[255 * (mark == "#") for mark in row] for row in rows], dtype=np.uint8)
    return Image.fromarray(bits)
