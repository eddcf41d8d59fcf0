"""How right an answer is, from 0 to 1: exact match, VQA accuracy, yes/no as POPE counts, multiple choice."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

ScoreName = Literal["exact", "vqa", "yes-no", "choice"]
VQA_ANSWERS = 10  # people asked for each question of VQAv2
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_ARTICLES = {"a", "an", "the"}
_NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"zero": "0", **{word: str(number) for number, word in enumerate(_NUMBERS)}}


def normalised(text: str) -> str:
    """As VQA's evaluation does it: no case, no articles, no punctuation, numbers as digits.

    Points and commas inside numbers stay (3.5) or go (1,000); apostrophes go, so that dont = don't.
    """
    text = re.sub(r"(?<=\d),(?=\d)", "", text.lower().replace("'", "").replace("’", ""))
    text = re.sub(r"(?!(?<=\d)[.:](?=\d))[^\w\s]", " ", text)
    words = [_DIGITS.get(word, word) for word in text.split()]
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def exact(said: str, answers: Sequence[str]) -> float:
    """Whether it is one of the answers."""
    return float(normalised(said) in {normalised(answer) for answer in answers})


def vqa(said: str, answers: Sequence[str]) -> float:
    """min(people who said so ÷ 3, 1), averaged over all ways to leave one of the ten out (arXiv 1505.00468)."""
    found = [normalised(answer) == normalised(said) for answer in answers]
    left_out = [min((sum(found) - out) / 3, 1.0) for out in found]
    return sum(left_out) / len(left_out)


def says(said: str) -> Literal["yes", "no", ""]:
    """POPE's reading of the first sentence (arXiv 2305.10355): no or not anywhere is a no.

    An answer with neither word is neither here, hence wrong; POPE's own script takes it for a yes.
    """
    words = normalised(said.strip().split(".")[0]).split()
    if "no" in words or "not" in words:
        return "no"
    return "yes" if "yes" in words else ""


def yes_no(said: str, answers: Sequence[str]) -> float:
    return float(says(said) == normalised(answers[0]))


def chosen_letter(said: str, choices: Sequence[str] = ()) -> str:
    """The option an answer names: by its letter in front, by `answer is B`, or by its text; else nothing."""
    found = re.match(r"\s*\(?([A-Za-z])(?:[).:,]|\s*$)", said) or re.search(
        r"\b(?i:answer\s*(?:is|:))\s*\(?([A-Z])\b", said
    )
    if found:
        return found[1].upper()
    texts = [normalised(choice) for choice in choices]
    return LETTERS[texts.index(normalised(said))] if normalised(said) in texts else ""


@dataclass(frozen=True)
class YesNo:
    """POPE's five numbers; a yes is the positive answer. None where nothing was there to divide by."""

    accuracy: float
    precision: float | None
    recall: float | None
    f1: float | None
    yes_ratio: float


def yes_no_summary(pairs: Sequence[tuple[str, str]]) -> YesNo | None:
    """Of (what was said, the right answer) pairs."""
    if not pairs:
        return None
    read = [(says(said), normalised(answer)) for said, answer in pairs]
    hits = read.count(("yes", "yes"))
    said_yes = sum(said == "yes" for said, _ in read)
    right_yes = sum(answer == "yes" for _, answer in read)
    return YesNo(
        accuracy=sum(said == answer for said, answer in read) / len(read),
        precision=hits / said_yes if said_yes else None,
        recall=hits / right_yes if right_yes else None,
        f1=2 * hits / (said_yes + right_yes) if said_yes + right_yes else None,
        yes_ratio=said_yes / len(read),
    )


def score(name: ScoreName, said: str, answers: Sequence[str], choices: Sequence[str] = ()) -> float:
    if name == "choice":
        return float(chosen_letter(said, choices) == answers[0])
    return _SCORES[name](said, answers)


_SCORES: dict[str, Callable[[str, Sequence[str]], float]] = {"exact": exact, "vqa": vqa, "yes-no": yes_no}
