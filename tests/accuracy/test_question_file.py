"""A question file as people write it, and every mistake in it at once, with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from tokprof.accuracy.question_file import read_questions
from tokprof.errors import WorkloadError

GOOD: dict[str, Any] = {"image": "cat.png", "question": "Is there a cat?", "answer": "yes", "kind": "existence"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    PIL.Image.new("RGB", (30, 20), "red").save(tmp_path / "cat.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return tmp_path


def written(folder: Path, *lines: dict[str, Any] | str) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_fields_become_questions(folder: Path) -> None:
    lines = [
        GOOD,
        {"image": "cat.png", "question": "How many?", "answer": 2},
        {"image": ["cat.png", "cat.png"], "question": "Same?", "answers": ["same"] * 10},
        {"image": "cat.png", "question": "Which?", "answer": "B", "choices": ["dog", "cat"], "kind": "animal"},
        {"image": "cat.png", "question": "Which? A. dog B. cat", "answer": "B"},
        {"image": "cat.png", "question": "Yes?", "answer": "yes", "score": "exact"},
    ]
    asked = read_questions(written(folder, *lines, ""))
    assert [question.score for question in asked.questions] == ["yes-no", "exact", "vqa", "choice", "choice", "exact"]
    assert asked.kinds == ["existence", "exact", "vqa", "animal", "choice"]
    assert asked.questions[1].answers == ("2",)
    assert asked.questions[2].sizes == ((30, 20), (30, 20))
    assert asked.questions[3].prompt.splitlines()[:3] == ["Which?", "A. dog", "B. cat"]
    assert asked.questions[0].pictures()[0].size == (30, 20)
    assert asked.first(2).questions == asked.questions[:2]


MISTAKES: dict[str, tuple[dict[str, Any] | str, str]] = {
    "not JSON": ("{image: cat.png}", "not JSON"),
    "half a character": ('{"image": "cat.png", "question": "\\ud800?", "answer": "yes"}', "half a character"),
    "a deep nest": ("[" * 100_000, "not JSON"),
    "not an object": ("[1, 2]", "not an object"),
    "no image": ({"question": "Cat?", "answer": "yes"}, "'image' is missing"),
    "no question": ({"image": "cat.png", "answer": "yes"}, "'question' is missing"),
    "no answer": ({"image": "cat.png", "question": "Cat?"}, "'answer' or 'answers' is missing"),
    "two kinds of answers": ({**GOOD, "answers": ["yes"]}, "both 'answer' and 'answers'"),
    "a file that is not there": ({**GOOD, "image": "dog.png"}, "no picture"),
    "a broken picture": ({**GOOD, "image": "broken.png"}, "cannot be read"),
    "a number for a path": ({**GOOD, "image": 3}, "'image' has to be a path"),
    "no paths": ({**GOOD, "image": []}, "'image' has to be a path"),
    "a list for a question": ({**GOOD, "question": ["Cat?"]}, "'question' has to be a text"),
    "a blank question": ({**GOOD, "question": " "}, "'question' has to be a text"),
    "true for an answer": ({**GOOD, "answer": True}, "'answer' has to be a text or a number"),
    "a text for answers": ({"image": "cat.png", "question": "Cat?", "answers": "yes"}, "'answers' has to be a list"),
    "a number for a kind": ({**GOOD, "kind": 3}, "'kind' has to be a text"),
    "a misspelt field": ({**GOOD, "knid": "x"}, "unknown field 'knid'"),
    "a score of one's own": ({**GOOD, "score": "bleu"}, "none of exact, vqa, yes-no, choice"),
    "a score that is no word": ({**GOOD, "score": ["exact"]}, "none of exact, vqa, yes-no, choice"),
    "VQA with one answer": ({**GOOD, "score": "vqa"}, "takes 10 answers"),
    "yes/no with maybe": ({**GOOD, "answer": "maybe", "score": "yes-no"}, "yes or no"),
    "a letter too far": ({**GOOD, "answer": "C", "choices": ["dog", "cat"]}, "one letter from A to B"),
    "choices, but exact": ({**GOOD, "choices": ["a", "b"], "score": "exact"}, "multiple choice"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_each_mistake_is_named_with_its_line(folder: Path, case: str) -> None:
    line, text = MISTAKES[case]
    with pytest.raises(WorkloadError) as error:
        read_questions(written(folder, GOOD, line))
    assert "line 2: " in error.value.message and text in error.value.message
    assert error.value.hint


def test_all_mistakes_are_listed_at_once_but_not_thousands(folder: Path) -> None:
    with pytest.raises(WorkloadError) as error:
        read_questions(written(folder, *({"image": "dog.png"} for _ in range(30))))
    lines = error.value.message.splitlines()
    assert "90 mistake(s)" in lines[0]
    assert lines[1].strip().startswith("line 1: ") and lines[-1].strip() == "and 70 more"


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_said(folder: Path, text: str) -> None:
    with pytest.raises(WorkloadError, match="empty"):
        read_questions(written(folder, text))


def test_a_file_that_is_not_there_or_no_text(folder: Path) -> None:
    with pytest.raises(WorkloadError, match="no question file"):
        read_questions(folder / "none.jsonl")
    with pytest.raises(WorkloadError, match="cannot be read"):
        read_questions(folder)
    (folder / "binary.jsonl").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(WorkloadError, match="cannot be read"):
        read_questions(folder / "binary.jsonl")
