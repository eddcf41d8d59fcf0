"""What is asked: a picture or several, a question, the right answers, and how answers are scored. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tokprof.accuracy.scoring import LETTERS, ScoreName, score
from tokprof.layout import Size
from tokprof.models.catalog import Entry
from tokprof.workload import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

SHORTLY = "Answer the question using a single word or phrase."  # LLaVA's own words for VQA and POPE
BY_LETTER = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True, kw_only=True)
class Question:
    """`images`: files, opened when they are needed, or pictures in memory. `answers`: a choice's is its letter."""

    images: tuple[Path | Image, ...]
    sizes: tuple[Size, ...]
    text: str
    answers: tuple[str, ...]
    kind: str
    score: ScoreName = "exact"
    choices: tuple[str, ...] = ()

    @property
    def video(self) -> bool:
        return False

    @property
    def prompt(self) -> str:
        if not self.choices:
            return self.text
        options = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, self.choices, strict=False)]
        return "\n".join([self.text, *options, BY_LETTER])

    def pictures(self) -> tuple[Image, ...]:
        return tuple(open_picture(image) if isinstance(image, Path) else image for image in self.images)

    def rate(self, said: str) -> float:
        return score(self.score, said, self.answers, self.choices)


@dataclass(frozen=True)
class QuestionSet:
    """`task`: what it is, for people."""

    task: str
    questions: tuple[Question, ...]

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(question.kind for question in self.questions))

    def first(self, limit: int | None) -> QuestionSet:
        return self if limit is None else QuestionSet(self.task, self.questions[:limit])

    def shortly(self) -> QuestionSet:
        """With LLaVA's request for a short answer behind each question, for models that talk."""
        asked = [replace(question, text=f"{question.text}\n{SHORTLY}") for question in self.questions]
        return QuestionSet(self.task, tuple(asked))


def demo_questions(count: int) -> QuestionSet:
    """The first of the bundled series that no training and no choice ever saw."""
    from tokprof.demo.questions import HELD_OUT_SEED, held_out

    asked = [
        Question(
            images=(found.image,),
            sizes=(found.image.size,),
            text=found.text,
            answers=(found.answer,),
            kind=found.kind,
            score="yes-no" if found.answer in ("yes", "no") else "exact",
        )
        for found in held_out(count)
    ]
    return QuestionSet(f"{count} held-out questions of the demo (seed {HELD_OUT_SEED})", tuple(asked))


def bundled_questions(count: int, entry: Entry) -> QuestionSet:
    """For a model: one that was not trained to answer these is asked to do so shortly."""
    asked = demo_questions(count)
    return asked if entry.questions else asked.shortly()
