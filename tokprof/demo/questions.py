"""Questions about the pictures: six kinds, asked and answered as in POPE and VQA."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tokprof.demo.pictures import Scene, Thing, draw_scene, paint
from tokprof.demo.words import COLOURS, SHAPES, plural

KINDS: tuple[str, ...] = ("existence", "colour", "shape", "where", "count", "digit")
KIND_SHARES: tuple[float, ...] = (0.28, 0.13, 0.13, 0.18, 0.20, 0.08)  # in training, if not said otherwise
HELD_OUT_SEED = 20_260_731
VALIDATION_SEED = 20_260_730
_HIGHEST_COUNT = 5


@dataclass(frozen=True)
class Asked:
    """A question without its picture."""

    kind: str
    text: str
    answer: str
    hard: bool


@dataclass(frozen=True)
class Question:
    """A picture, a question about it, and the one right answer.

    `hard`: the answer hangs on an object too small for the overview; it takes the tiles.
    """

    image: Image.Image
    kind: str
    text: str
    answer: str
    hard: bool


def held_out(count: int, seed: int = HELD_OUT_SEED) -> list[Question]:
    """The first `count` questions of a fixed series: kinds in turn, yes and no in turn.

    Every question has a picture of its own; a longer series begins with the shorter one.
    """
    return [_question_of_series(seed, index) for index in range(count)]


def _question_of_series(seed: int, index: int) -> Question:
    rng = np.random.default_rng([seed, index])
    kind = KINDS[index % len(KINDS)]
    present = index // len(KINDS) % 2 == 0
    while True:
        scene = draw_scene(rng)
        asked = ask(scene, kind, rng, present)
        if asked is not None:
            image = paint(scene, rng)
            return Question(image, asked.kind, asked.text, asked.answer, asked.hard)


def ask(scene: Scene, kind: str, rng: np.random.Generator, present: bool | None = None) -> Asked | None:
    """One question of that kind, or None where the scene allows none without ambiguity.

    `present` fixes the answer of an existence question; other kinds ignore it.
    """
    if kind == "existence":
        yes = bool(rng.random() < 0.5) if present is None else present
        return _existence(scene, rng, yes)
    return _ASK[kind](scene, rng)


def _existence(scene: Scene, rng: np.random.Generator, yes: bool) -> Asked:
    form = rng.random()
    if form < 0.2:
        return _existence_of_one(scene, rng, yes, [thing.colour for thing in scene.things])
    if form < 0.4:
        return _existence_of_one(scene, rng, yes, [thing.shape for thing in scene.things])
    if yes:
        chosen = scene.things[int(rng.integers(len(scene.things)))]
        pair = (chosen.colour, chosen.shape)
    else:
        pair = _absent_pair(scene, rng)
    exactly = [thing for thing in scene.things if (thing.colour, thing.shape) == pair]
    nearly = [thing for thing in scene.things if thing.colour == pair[0] or thing.shape == pair[1]]
    hard = all(thing.small for thing in exactly) if yes else any(thing.small for thing in nearly)
    text = f"Is there {_article(pair[0])} {pair[0]} {pair[1]}?"
    return Asked("existence", text, "yes" if yes else "no", hard)


def _existence_of_one(scene: Scene, rng: np.random.Generator, yes: bool, shown: list[str]) -> Asked:
    """`Is there anything red?` or `Is there a star?`, after one attribute alone."""
    every = tuple(COLOURS) if shown[0] in COLOURS else SHAPES
    missing = [word for word in every if word not in shown]
    if not yes and not missing:
        yes = True
    word = _pick(rng, shown if yes else missing)
    text = f"Is there anything {word}?" if word in COLOURS else f"Is there {_article(word)} {word}?"
    matching = _matching(scene, word)
    hard = bool(matching) and all(thing.small for thing in matching)
    return Asked("existence", text, "yes" if yes else "no", hard)


def _absent_pair(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A pair not in the picture; mostly adversarial: its colour and its shape are, apart."""
    shown = {(thing.colour, thing.shape) for thing in scene.things}
    colours = sorted({thing.colour for thing in scene.things})
    shapes = sorted({thing.shape for thing in scene.things})
    apart = [(colour, shape) for colour in colours for shape in shapes]
    apart = [pair for pair in apart if pair not in shown]
    if apart and rng.random() < 0.7:
        return apart[int(rng.integers(len(apart)))]
    while True:
        pair = (_pick(rng, tuple(COLOURS)), _pick(rng, SHAPES))
        if pair not in shown:
            return pair


def _colour(scene: Scene, rng: np.random.Generator) -> Asked | None:
    thing = _unique(scene, rng, lambda thing: thing.shape)
    if thing is None:
        return None
    return Asked("colour", f"What colour is the {thing.shape}?", thing.colour, thing.small)


def _shape(scene: Scene, rng: np.random.Generator) -> Asked | None:
    thing = _unique(scene, rng, lambda thing: thing.colour)
    if thing is None:
        return None
    return Asked("shape", f"What shape is the {thing.colour} object?", thing.shape, thing.small)


def _where(scene: Scene, rng: np.random.Generator) -> Asked | None:
    form = rng.random()
    thing: Thing | None
    if form < 0.1:
        thing, name = scene.digit, "digit"
    elif form < 0.35:
        thing = _unique(scene, rng, lambda thing: thing.shape)
        name = thing.shape if thing else ""
    elif form < 0.6:
        thing = _unique(scene, rng, lambda thing: thing.colour)
        name = f"{thing.colour} object" if thing else ""
    else:
        thing = _unique(scene, rng, lambda thing: f"{thing.colour} {thing.shape}")
        name = f"{thing.colour} {thing.shape}" if thing else ""
    if thing is None:
        return None
    return Asked("where", f"Where is the {name}?", scene.quadrant(thing), thing.small)


def _count(scene: Scene, rng: np.random.Generator) -> Asked | None:
    """First the number is drawn, then a question with that answer: numbers stay balanced."""
    if rng.random() < 0.15:
        hard = any(thing.small for thing in scene.things)
        return Asked("count", "How many objects are there?", str(len(scene.things)), hard)
    by_number: dict[int, list[str]] = {}
    for word in (*COLOURS, *SHAPES):
        by_number.setdefault(len(_matching(scene, word)), []).append(word)
    attainable = sorted(number for number in by_number if number <= _HIGHEST_COUNT)
    number = attainable[int(rng.integers(len(attainable)))]
    word = _pick(rng, by_number[number])
    name = f"{word} objects" if word in COLOURS else plural(word)
    hard = any(thing.small for thing in _matching(scene, word))
    return Asked("count", f"How many {name} are there?", str(number), hard)


def _digit(scene: Scene, rng: np.random.Generator) -> Asked | None:
    return Asked("digit", "Which digit is shown?", scene.digit.shape, scene.digit.small)


_ASK: dict[str, Callable[[Scene, np.random.Generator], Asked | None]] = {
    "colour": _colour,
    "shape": _shape,
    "where": _where,
    "count": _count,
    "digit": _digit,
}


def _unique(scene: Scene, rng: np.random.Generator, name: Callable[[Thing], str]) -> Thing | None:
    often = Counter(name(thing) for thing in scene.things)
    alone = [thing for thing in scene.things if often[name(thing)] == 1]
    return alone[int(rng.integers(len(alone)))] if alone else None


def _matching(scene: Scene, word: str) -> list[Thing]:
    return [thing for thing in scene.things if word in (thing.colour, thing.shape)]


def _pick(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
