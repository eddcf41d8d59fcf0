"""The small language of the demo: every word its questions and answers are made of."""

from __future__ import annotations

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 45, 45),
    "green": (40, 165, 60),
    "blue": (50, 80, 225),
    "yellow": (240, 220, 50),
    "purple": (150, 50, 190),
    "orange": (245, 140, 30),
    "cyan": (60, 205, 220),
    "white": (245, 245, 245),
}
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross", "ring")
DIGITS: tuple[str, ...] = tuple("0123456789")
ASPECTS: tuple[tuple[str, ...], ...] = (tuple(COLOURS), SHAPES, DIGITS)
ROWS: tuple[str, ...] = ("top", "bottom")
COLUMNS: tuple[str, ...] = ("left", "right")


def plural(shape: str) -> str:
    """`circle` becomes `circles`, `cross` becomes `crosses`."""
    return shape + ("es" if shape.endswith("s") else "s")


GRAMMAR: tuple[str, ...] = (
    "user",
    "assistant",
    "yes",
    "no",
    "is",
    "are",
    "there",
    "a",
    "an",
    "the",
    "in",
    "this",
    "picture",
    "what",
    "which",
    "where",
    "how",
    "many",
    "colour",
    "shape",
    "object",
    "objects",
    "digit",
    "shown",
    "anything",
    "of",
    "and",
    "describe",
    "image",
)

VOCABULARY: tuple[str, ...] = (
    *GRAMMAR,
    *COLOURS,
    *SHAPES,
    *(plural(shape) for shape in SHAPES),
    *DIGITS,
    *ROWS,
    *COLUMNS,
)
