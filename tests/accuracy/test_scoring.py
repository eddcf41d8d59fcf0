"""Each score on answers whose right value is plain to see, and VQA accuracy against its definition."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokprof.accuracy.scoring import chosen_letter, exact, normalised, says, score, vqa, yes_no, yes_no_summary


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("The  Red car.", "red car"),
        ("two", "2"),
        ("None", "0"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("10:30", "10:30"),
        ("don't", "dont"),
        ("don’t", "dont"),
        ("top-left!", "top left"),
        ("A.", "a"),
        ("", ""),
    ],
)
def test_normalised(raw: str, plain: str) -> None:
    assert normalised(raw) == plain


def test_exact_takes_any_of_the_answers_and_nothing_more() -> None:
    assert exact("A couch.", ["sofa", "couch"]) == 1.0
    assert exact("red couch", ["couch"]) == 0.0
    assert exact("", ["couch"]) == 0.0
    assert exact("", ["a"]) == 0.0


@given(st.integers(0, 10))
def test_vqa_is_the_mean_over_all_nines(agreeing: int) -> None:
    answers = ["cat"] * agreeing + ["dog"] * (10 - agreeing)
    nines = [min(nine.count("cat") / 3, 1.0) for nine in combinations(answers, 9)]
    assert vqa("The cat", answers) == pytest.approx(sum(nines) / len(nines))


def test_vqa_gives_the_known_steps() -> None:
    steps = [vqa("yes", ["yes"] * count + ["no"] * (10 - count)) for count in range(6)]
    assert steps == pytest.approx([0, 0.3, 0.6, 0.9, 1, 1])


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("Yes", "yes"),
        ("yes, there is a cat.", "yes"),
        ("No.", "no"),
        ("There is not a cat. Yes.", "no"),
        ("There is no cat", "no"),
        ("Yesterday", ""),
        ("a cat", ""),
        ("", ""),
    ],
)
def test_yes_and_no_are_read_from_the_first_sentence(said: str, read: str) -> None:
    assert says(said) == read


def test_yes_no_summary_is_popes_five_numbers() -> None:
    pairs = [("yes", "yes")] * 3 + [("no", "yes")] + [("yes", "no")] + [("no", "no")] * 4 + [("cat", "no")]
    found = yes_no_summary(pairs)
    assert found is not None
    assert (found.accuracy, found.precision, found.recall, found.yes_ratio) == (0.7, 0.75, 0.75, 0.4)
    assert found.f1 == pytest.approx(0.75)
    assert yes_no("cat", ["no"]) == 0.0


def test_yes_no_summary_where_nothing_divides() -> None:
    found = yes_no_summary([("no", "no")])
    assert found is not None and (found.precision, found.recall, found.f1, found.yes_ratio) == (None, None, None, 0.0)
    assert yes_no_summary([]) is None


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"),
        ("b.", "B"),
        ("(C) a dog", "C"),
        ("D: because", "D"),
        ("The answer is B", "B"),
        ("Answer: (C).", "C"),
        ("A dog", ""),
        ("a red dog", "A"),
        ("the answer is a dog", ""),
        ("", ""),
    ],
)
def test_the_chosen_letter(said: str, letter: str) -> None:
    assert chosen_letter(said, ("red dog", "blue dog")) == letter


def test_choice_compares_letters() -> None:
    assert score("choice", "blue dog", ["B"], ("red dog", "blue dog")) == 1.0
    assert score("choice", "A", ["B"], ("red dog", "blue dog")) == 0.0
