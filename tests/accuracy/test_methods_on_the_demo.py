"""Every method on trained weights gives the committed answers, and what is no better than lots is explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.demo_accuracy import NEW_TOKENS, Arm, DemoAccuracy
from tokprof import policies
from tokprof.accuracy.answering import Responder
from tokprof.accuracy.evaluation import Answers
from tokprof.accuracy.questions import QuestionSet, demo_questions
from tokprof.demo import LLAVA_NEXT_FOLDER
from tokprof.models import load
from tokprof.models.huggingface import HuggingFaceAdapter

ROOT = Path(__file__).parents[2]
RECORD = DemoAccuracy.read(LLAVA_NEXT_FOLDER.parent / "records" / "accuracy.json")
ASKED_AGAIN = 24
USUAL = [arm for arm, _ in RECORD.usual()]


@pytest.fixture(scope="module")
def adapter() -> HuggingFaceAdapter:
    return load("demo")


@pytest.fixture(scope="module")
def asked() -> QuestionSet:
    return demo_questions(ASKED_AGAIN)


@pytest.mark.parametrize("arm", [RECORD.dense, *USUAL], ids=lambda arm: arm.method)
def test_a_method_answers_as_in_the_record(adapter: HuggingFaceAdapter, asked: QuestionSet, arm: Arm) -> None:
    """Another machine may round one answer to the other side; a broken method changes several."""
    policy = policies.build(arm.method, **arm.parameters)
    (replies,) = Responder(adapter, NEW_TOKENS).replies([policy], asked.questions)
    again = "".join(f"{score:.0f}" for score in Answers.of(policy, asked, replies).scores)
    assert sum(now != then for now, then in zip(again, arm.right, strict=False)) <= 1


def test_every_method_is_in_the_record() -> None:
    assert {arm.method for arm in USUAL} == set(policies.names()) - {"dense"}


def test_dense_is_good_at_every_kind_and_lots_cost() -> None:
    assert RECORD.dense.share(RECORD.chosen()).value >= 0.9
    for kind in RECORD.kinds:
        assert RECORD.dense.share(RECORD.chosen(kind)).value >= 0.8, kind
    lots = RECORD.grid()["random"][0.25]
    assert lots.against(RECORD.dense).difference < -0.05 and lots.against(RECORD.dense).p < 0.001


def test_what_is_not_above_its_twin_is_explained() -> None:
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    explained = dict(re.findall(r"^- \*\*(\w+)\*\* \((below|no difference)\): \S", page, re.MULTILINE))
    pairs = [(arm, twin) for arm, twin in RECORD.usual() if twin is not None]
    verdicts = {arm.method: RECORD.verdict(arm, twin) for arm, twin in pairs}
    assert explained == {name: found for name, found in verdicts.items() if found != "above"}
    assert "not explained" not in page
