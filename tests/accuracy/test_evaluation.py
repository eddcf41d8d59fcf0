"""From what was said to the table and the JSON: hand-made answers, figures worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tokprof.accuracy.evaluation import Answers, Evaluation
from tokprof.accuracy.questions import Question, QuestionSet
from tokprof.accuracy.table import p_text, render


def question(kind: str, answer: str, **more: Any) -> Question:
    return Question(images=(), sizes=(), text="?", answers=(answer,), kind=kind, **more)


ASKED = QuestionSet(
    "20 questions",
    tuple(question("existence", "yes" if index % 2 else "no", score="yes-no") for index in range(10))
    + tuple(question("colour", "red") for _ in range(10)),
)
RIGHT = [found.answers[0] for found in ASKED.questions]


def answers(method: str, said: list[str], layer_mean: float, flops: float) -> Answers:
    parameters = {} if method == "dense" else {"keep": 0.25, "layer": 2}
    return Answers(method, parameters, ASKED, tuple(said), layer_mean, flops)


DENSE = answers("dense", RIGHT, 744.0, 6e9)
WORSE = answers("fastv", ["yes"] * 10 + ["blue"] * 4 + ["red"] * 6, 255.75, 2e9)
FOUND = Evaluation("demo", "demo · bundled", True, ASKED, DENSE, (WORSE,))


def test_shares_by_kind_and_the_paired_difference() -> None:
    assert (WORSE.share().right, WORSE.share().asked) == (11, 20)
    assert (WORSE.share("colour").right, WORSE.share("colour").asked) == (6, 10)
    found = WORSE.against(DENSE)
    assert (found.better, found.worse) == (0, 9)
    assert found.difference == pytest.approx(-0.45)
    assert found.p == pytest.approx(2 / 2**9)
    summary = WORSE.yes_no
    assert summary is not None and (summary.recall, summary.precision, summary.yes_ratio) == (1.0, 0.5, 1.0)


def test_a_record_gets_counts_by_kind() -> None:
    record = WORSE.accuracy()
    assert (record.correct, record.questions) == (11, 20)
    assert record.by_kind == {"existence": (5, 10), "colour": (6, 10)}


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_shows_it_all_within_its_width(width: int) -> None:
    console = Console(width=width, record=True, force_terminal=False, file=StringIO())
    console.print(render(FOUND, width=width))
    text = console.export_text()
    assert all(len(line) <= width for line in text.splitlines())
    for figure in ("55.0 [34.2, 74.2]", "-45.0 (+0 −9)", "0.0039", "3.00×", "255.8", "60.0 [31, 83]", "50.0 %"):
        assert figure in text, figure


def test_json_holds_every_answer_and_the_figures() -> None:
    data = json.loads(json.dumps(FOUND.as_data()))
    dense, fastv = data["arms"]
    assert dense["paired_with_dense"] is None and dense["accuracy"]["share"] == 1.0
    assert fastv["paired_with_dense"]["worse"] == 9
    assert [found["said"] for found in fastv["answers"]] == list(WORSE.said)
    assert sum(found["score"] for found in fastv["answers"]) == fastv["accuracy"]["right"] == 11
    assert len(data["questions"]) == 20


def test_random_weights_are_said() -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(render(replace(FOUND, trained=False), width=80))
    assert "weights are random" in console.export_text()


@pytest.mark.parametrize(("p", "text"), [(1.0, "1.00"), (0.05, "0.05"), (0.0039, "0.0039"), (1e-7, "< 0.0001")])
def test_p_values(p: float, text: str) -> None:
    assert p_text(p) == text
