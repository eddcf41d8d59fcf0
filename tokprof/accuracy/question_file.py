"""The user's own questions, a JSON object per line; every mistake of a file is listed with its line. No torch.

    {"image": "cat.jpg", "question": "Is there a cat?", "answer": "yes", "kind": "existence"}

`image`: a path relative to the file, or a list of them. `answer` or `answers`. Optional: `kind` (rows of
the table), `choices` (texts of the options A, B, …) and `score`. Without `score` ten answers mean VQA
accuracy, choices or a capital letter multiple choice, yes or no yes/no, anything else exact match with
one of the answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from tokprof.accuracy.questions import Question, QuestionSet
from tokprof.accuracy.scoring import LETTERS, VQA_ANSWERS, ScoreName, normalised
from tokprof.errors import TokprofError, WorkloadError
from tokprof.layout import Size
from tokprof.workload import open_picture

FIELDS = ("image", "question", "answer", "answers", "kind", "choices", "score")
SCORES: tuple[ScoreName, ...] = get_args(ScoreName)
SHOWN = 20  # mistakes
HINT = 'a line is {"image": "cat.jpg", "question": "Is there a cat?", "answer": "yes", "kind": "existence"}'


def read_questions(path: Path) -> QuestionSet:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise WorkloadError(f"there is no question file {path}", HINT) from error
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"the question file {path} cannot be read: {error}", HINT) from error
    mistakes: list[str] = []
    questions = []
    sizes: dict[Path, Size] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        reader = _Line(path.parent, sizes)
        question = reader.read(line)
        mistakes += [f"line {number}: {text}" for text in reader.mistakes]
        if question is not None:
            questions.append(question)
    if mistakes:
        shown = "".join(f"\n  {text}" for text in mistakes[:SHOWN])
        more = f"\n  and {len(mistakes) - SHOWN} more" if len(mistakes) > SHOWN else ""
        raise WorkloadError(f"{path} has {len(mistakes)} mistake(s):{shown}{more}", HINT)
    if not questions:
        raise WorkloadError(f"the question file {path} is empty", HINT)
    return QuestionSet(f"{len(questions)} questions of {path.name}", tuple(questions))


class _Line:
    """One line's fields; what is wrong with them gathers in `mistakes`. `sizes`: pictures already looked at."""

    def __init__(self, folder: Path, sizes: dict[Path, Size]) -> None:
        self.mistakes: list[str] = []
        self._folder, self._sizes = folder, sizes
        self._data: dict[str, Any] = {}

    def read(self, line: str) -> Question | None:
        try:
            data = json.loads(line)
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            self.mistakes.append("half a character (a lone surrogate)")
            return None
        except (ValueError, RecursionError) as error:
            self.mistakes.append(f"not JSON: {error}")
            return None
        if not isinstance(data, dict):
            self.mistakes.append("not an object with fields")
            return None
        self._data = data
        self.mistakes += [f"unknown field {name!r}" for name in data if name not in FIELDS]
        images, text = self._images(), self._text("question", needed=True)
        answers, choices = self._answers(), self._texts("choices")
        kind, name = self._text("kind"), self._score(answers, choices)
        if name is None or self.mistakes:
            return None
        sizes = tuple(self._sizes[image] for image in images)
        return Question(
            images=images, sizes=sizes, text=text, answers=answers, kind=kind or name, score=name, choices=choices
        )

    def _text(self, name: str, *, needed: bool = False) -> str:
        if name not in self._data:
            if needed:
                self.mistakes.append(f"{name!r} is missing")
            return ""
        value = self._data[name]
        if not isinstance(value, str) or not value.strip():
            self.mistakes.append(f"{name!r} has to be a text, not {_shown(value)}")
            return ""
        return value.strip()

    def _texts(self, name: str) -> tuple[str, ...]:
        values = self._data.get(name, [])
        if name in self._data and (not isinstance(values, list) or not values or not all(map(_answer_like, values))):
            self.mistakes.append(f"{name!r} has to be a list of texts, not {_shown(values)}")
            return ()
        return tuple(str(value).strip() for value in values)

    def _images(self) -> tuple[Path, ...]:
        given = self._data.get("image")
        if "image" not in self._data:
            self.mistakes.append("'image' is missing")
            return ()
        listed: list[Any] = given if isinstance(given, list) else [given]
        names = [name for name in listed if isinstance(name, str) and name]
        if not names or len(names) < len(listed):
            self.mistakes.append(f"'image' has to be a path or a list of paths, not {_shown(given)}")
            return ()
        paths = tuple(self._folder / name for name in names)
        for path in paths:
            self._look_at(path)
        return paths

    def _look_at(self, path: Path) -> None:
        if path in self._sizes:
            return
        try:
            self._sizes[path] = open_picture(path).size
        except TokprofError as error:
            self.mistakes.append(error.message)

    def _answers(self) -> tuple[str, ...]:
        if "answer" in self._data and "answers" in self._data:
            self.mistakes.append("both 'answer' and 'answers'")
            return ()
        if "answers" in self._data:
            return self._texts("answers")
        if "answer" not in self._data:
            self.mistakes.append("'answer' or 'answers' is missing")
            return ()
        answer = self._data["answer"]
        if not _answer_like(answer):
            self.mistakes.append(f"'answer' has to be a text or a number, not {_shown(answer)}")
            return ()
        return (str(answer).strip(),)

    def _score(self, answers: tuple[str, ...], choices: tuple[str, ...]) -> ScoreName | None:
        name = self._data.get("score") or _usual_score(answers, choices)
        if name not in SCORES:
            self.mistakes.append(f"'score' {_shown(name)} is none of {', '.join(SCORES)}")
            return None
        if not answers:
            return None  # already said
        wrong = _misfit(name, answers, choices)
        if wrong:
            self.mistakes.append(wrong)
        return name


def _usual_score(answers: tuple[str, ...], choices: tuple[str, ...]) -> ScoreName:
    if choices or (len(answers) == 1 and answers[0] in LETTERS):
        return "choice"
    if len(answers) == VQA_ANSWERS:
        return "vqa"
    return "yes-no" if len(answers) == 1 and normalised(answers[0]) in ("yes", "no") else "exact"


def _misfit(name: ScoreName, answers: tuple[str, ...], choices: tuple[str, ...]) -> str:
    """Why these answers cannot be scored like that; empty if they can."""
    if name == "vqa" and len(answers) != VQA_ANSWERS:
        return f"VQA accuracy takes {VQA_ANSWERS} answers, not {len(answers)}"
    if name == "yes-no" and (len(answers) > 1 or normalised(answers[0]) not in ("yes", "no")):
        return f"a yes/no question's answer is yes or no, not {_shown(answers[0])}"
    if name == "choice":
        letters = LETTERS[: len(choices)] if choices else LETTERS
        if len(answers) > 1 or len(answers[0]) != 1 or answers[0] not in letters:
            return f"a choice's answer is one letter from {letters[0]} to {letters[-1]}, not {_shown(answers[0])}"
    if choices and name != "choice":
        return f"'choices' are for multiple choice, not for {name!r}"
    return ""


def _answer_like(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and bool(str(value).strip())


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"
