from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tokprof.demo.pictures import CELL_PX, draw_scene, paint
from tokprof.demo.questions import HELD_OUT_SEED, KINDS, VALIDATION_SEED, Question, ask, held_out
from tokprof.demo.words import COLOURS, DIGITS, SHAPES, VOCABULARY


@pytest.fixture(scope="module")
def series() -> list[Question]:
    return held_out(240)


def _facts(question: Question) -> tuple[bytes, str, str, str, bool]:
    return (question.image.tobytes(), question.kind, question.text, question.answer, question.hard)


def test_the_same_seed_gives_the_same_questions(series: list[Question]) -> None:
    again = held_out(12)
    assert [_facts(one) for one in again] == [_facts(one) for one in series[:12]]


def test_another_seed_gives_other_pictures(series: list[Question]) -> None:
    others = {question.image.tobytes() for question in held_out(12, VALIDATION_SEED)}
    assert others.isdisjoint(question.image.tobytes() for question in series)


def test_the_held_out_seed_stays() -> None:
    assert HELD_OUT_SEED == 20_260_731
    assert HELD_OUT_SEED != VALIDATION_SEED


def test_kinds_take_turns_and_existence_is_balanced(series: list[Question]) -> None:
    assert Counter(question.kind for question in series) == dict.fromkeys(KINDS, 40)
    answers = Counter(question.answer for question in series if question.kind == "existence")
    assert answers == {"yes": 20, "no": 20}


def test_answers_are_of_their_kind(series: list[Question]) -> None:
    quarters = {f"{row} {column}" for row in ("top", "bottom") for column in ("left", "right")}
    allowed: dict[str, set[str]] = {
        "existence": {"yes", "no"},
        "colour": set(COLOURS),
        "shape": set(SHAPES),
        "where": quarters,
        "count": set(DIGITS),
        "digit": set(DIGITS),
    }
    for question in series:
        assert question.answer in allowed[question.kind]


def test_no_answer_dominates(series: list[Question]) -> None:
    for kind in KINDS:
        answers = Counter(question.answer for question in series if question.kind == kind)
        assert max(answers.values()) <= 40 * 0.55, kind


def test_both_tiers_are_there_in_every_kind(series: list[Question]) -> None:
    for kind in KINDS:
        hard = sum(question.hard for question in series if question.kind == kind)
        assert 4 <= hard <= 36, kind


def test_pictures_are_rgb_and_of_the_size_the_tiles_need(series: list[Question]) -> None:
    assert {(question.image.mode, question.image.size) for question in series} == {("RGB", (192, 192))}


def test_every_word_is_in_the_vocabulary(series: list[Question]) -> None:
    for question in series:
        words = f"{question.text[:-1]} {question.answer}".lower().split()
        assert set(words) <= set(VOCABULARY)


def test_most_negatives_are_adversarial() -> None:
    rng = np.random.default_rng(5)
    adversarial = 0
    for _ in range(300):
        scene = draw_scene(rng)
        asked = ask(scene, "existence", rng, present=False)
        assert asked is not None
        words = set(asked.text[:-1].split())
        shown = [{thing.colour, thing.shape} for thing in scene.things]
        assert not any(pair <= words for pair in shown)
        adversarial += len(words & set().union(*shown)) == 2
    assert adversarial > 90


def test_things_keep_to_their_cells() -> None:
    rng = np.random.default_rng(6)
    for _ in range(100):
        scene = draw_scene(rng)
        everything = (*scene.things, scene.digit)
        cells = {(thing.x // CELL_PX, thing.y // CELL_PX) for thing in everything}
        assert len(cells) == len(everything)


@pytest.mark.parametrize("cells", [2, 4])
def test_things_are_painted_where_they_are(cells: int) -> None:
    rng = np.random.default_rng(7)
    scene = draw_scene(rng, cells=cells)
    values = np.asarray(paint(scene, rng)).astype(int)
    for thing in scene.things:
        if thing.shape != "ring":
            painted = values[round(thing.y), round(thing.x)]
            assert np.abs(painted - COLOURS[thing.colour]).max() <= 16
