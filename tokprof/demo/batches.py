"""Training batches: fresh pictures, many questions each, packed behind one another."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tokprof.demo.files import BOS, EOS, PAD, TILE_PX, build_tokenizer
from tokprof.demo.pictures import SMALL_SHARE, Scene, draw_scene, paint
from tokprof.demo.questions import KIND_SHARES, KINDS, Asked, ask
from tokprof.demo.words import ASPECTS

IGNORED = -100
SEGMENT_TOKENS = 10
# Overviews of whole scenes hold few small things: their shape is lost in the reduction.
FAR_SMALL_SHARE = 0.15
_SAYABLE = {word: index for index, word in enumerate(word for words in ASPECTS for word in words)}


@dataclass(frozen=True)
class Batch:
    """`pixels`: `(batch, crops, 3, 96, 96)`; text: `(batch, questions, tokens)`."""

    pixels: Tensor
    tokens: Tensor
    labels: Tensor
    kinds: Tensor  # (batch, questions), index into KINDS
    said: Tensor  # (batch, 4, words), the words that fit each quarter of the picture


def overview_batch(
    rng: np.random.Generator, pictures: int, questions: int, shares: Sequence[float] = KIND_SHARES
) -> Batch:
    """96-pixel pictures: every other one a whole scene reduced, the rest as near as a tile."""
    scenes, crops = [], []
    for index in range(pictures):
        if index % 2:
            scene = draw_scene(rng, cells=2)
            image = paint(scene, rng)
        else:
            scene = draw_scene(rng, small_share=FAR_SMALL_SHARE)
            image = reduced(paint(scene, rng))
        scenes.append(scene)
        crops.append(_pixels(image)[None])
    return _pack(scenes, crops, rng, questions, shares)


def tiled_batch(
    rng: np.random.Generator, pictures: int, questions: int, shares: Sequence[float] = KIND_SHARES
) -> Batch:
    """192-pixel pictures, each as one overview and four tiles, in the processor's order."""
    scenes, crops = [], []
    for _ in range(pictures):
        scene = draw_scene(rng, small_share=SMALL_SHARE)
        scenes.append(scene)
        crops.append(crops_of(paint(scene, rng)))
    return _pack(scenes, crops, rng, questions, shares)


def reduced(image: Image.Image) -> Image.Image:
    return image.resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC)


def crops_of(image: Image.Image) -> Tensor:
    """Overview and tiles of a 192-pixel picture, as the processor makes them."""  # (5, 3, 96, 96)
    tiles = [image.crop((left, top, left + TILE_PX, top + TILE_PX)) for top in (0, TILE_PX) for left in (0, TILE_PX)]
    return torch.stack([_pixels(crop) for crop in (reduced(image), *tiles)])


def encode_question(text: str) -> tuple[int, ...]:
    """The tokens that follow the picture, up to and including `ASSISTANT:`."""
    return encode_words(f"{text} ASSISTANT:")


@functools.cache
def prefix_tokens() -> tuple[int, ...]:
    """The tokens in front of the picture."""
    return (BOS, *encode_words("USER:"))


@functools.cache
def encode_words(text: str) -> tuple[int, ...]:
    return tuple(_tokenizer()(text, add_special_tokens=False)["input_ids"])


@functools.cache
def _tokenizer():  # type: ignore[no-untyped-def]
    return build_tokenizer()


def _pixels(image: Image.Image) -> Tensor:
    values = torch.from_numpy(np.array(image))
    return values.permute(2, 0, 1).float() / 127.5 - 1.0


def _pack(
    scenes: list[Scene], crops: list[Tensor], rng: np.random.Generator, questions: int, shares: Sequence[float]
) -> Batch:
    tokens = torch.full((len(scenes), questions, SEGMENT_TOKENS), PAD)
    labels = torch.full_like(tokens, IGNORED)
    kinds = torch.zeros(len(scenes), questions, dtype=torch.long)
    for row, scene in enumerate(scenes):
        for column, asked in enumerate(_questions(scene, rng, questions, shares)):
            question, answer = encode_question(asked.text), encode_words(asked.answer)
            filled = len(question) + len(answer)
            tokens[row, column, :filled] = torch.tensor(question + answer)
            labels[row, column, len(question) - 1 : filled] = torch.tensor((*answer, EOS))
            kinds[row, column] = KINDS.index(asked.kind)
    said = torch.stack([_said(scene) for scene in scenes])
    return Batch(torch.stack(crops), tokens, labels, kinds, said)


def _questions(scene: Scene, rng: np.random.Generator, count: int, shares: Sequence[float]) -> list[Asked]:
    asked: list[Asked] = []
    while len(asked) < count:
        kind = KINDS[int(rng.choice(len(KINDS), p=shares))]
        question = ask(scene, kind, rng)
        if question is not None:
            asked.append(question)
    return asked


def _said(scene: Scene) -> Tensor:
    """The words somebody might say about each quarter, reading order; `(4, words)`."""
    said = torch.zeros(4, len(_SAYABLE))
    for thing in (*scene.things, scene.digit):
        row, column = (int(place > scene.side_px / 2) for place in (thing.y, thing.x))
        for word in (thing.colour, thing.shape):
            if word:
                said[2 * row + column, _SAYABLE[word]] = 1.0
    return said
