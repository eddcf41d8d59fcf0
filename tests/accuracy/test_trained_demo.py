"""What only trained weights can show: a method that is broken is seen, and one that does nothing changes nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import pytest

from tokprof import policies
from tokprof.accuracy.answering import Reply, Responder
from tokprof.accuracy.evaluation import Answers
from tokprof.accuracy.proportions import wilson
from tokprof.accuracy.questions import QuestionSet, demo_questions
from tokprof.errors import TokprofError
from tokprof.fit import check_fit
from tokprof.models import load
from tokprof.models.huggingface import HuggingFaceAdapter
from tokprof.policies.base import DecoderView, Edit, ImageView, Plan, Policy, Scene
from tokprof.policies.fastv import FastV
from tokprof.policies.shares import rounded
from tokprof.recipe import Workload
from tokprof.workload import scene_of

QUESTIONS, FEW = 120, 6
NAMES = [name for name in policies.names() if name != "dense"]


@dataclass(frozen=True, kw_only=True)
class NextDoor(Policy):
    """A mistake that is easily made: the right places, read from the neighbour in the batch."""

    name: ClassVar[str] = "next-door"

    def plan(self, scene: Scene) -> Plan:
        return Plan(layers=(rounded(self.keep, scene.visual),) * scene.depth)

    def edit_image(self, view: ImageView) -> Edit:
        import torch

        tokens = view.tokens
        places = torch.arange(rounded(self.keep, view.scene.visual), device=tokens.device).expand(len(tokens), -1)
        wrong = tokens.roll(1, dims=0)
        return Edit(places, values=wrong.gather(1, places.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])))


@dataclass(frozen=True, kw_only=True)
class WrongWayRound(FastV):
    """Another: the scores sorted the wrong way round."""

    name: ClassVar[str] = "wrong-way-round"

    def edit_decoder(self, view: DecoderView) -> Edit:
        return Edit.top(-view.attention("last", layer="previous"), self.left(view))


@pytest.fixture(scope="module")
def adapter() -> HuggingFaceAdapter:
    found = load("demo")
    if not found.trained:
        pytest.skip('the demo\'s weights are not trained yet: provenance.json says "trained": false')
    return found


@pytest.fixture(scope="module")
def asked() -> QuestionSet:
    return demo_questions(QUESTIONS)


@pytest.fixture(scope="module")
def answered(adapter: HuggingFaceAdapter, asked: QuestionSet) -> dict[str, Answers]:
    arms = [
        policies.build("dense"),
        policies.build("random", keep=0.1),
        NextDoor(keep=0.999),
        policies.build("fastv", keep=0.1),
        WrongWayRound(keep=0.1),
    ]
    names = ("dense", "random 10 %", "next door", "fastv 10 %", "wrong way round 10 %")
    replies = Responder(adapter, new_tokens=3).replies(arms, asked.questions)
    return {name: Answers.of(arm, asked, row) for name, arm, row in zip(names, arms, replies, strict=True)}


def guessing(asked: QuestionSet) -> float:
    """The share that the best constant answer to each kind of question gets."""
    often = [
        Counter(question.answers[0] for question in asked.questions if question.kind == kind).most_common(1)[0][1]
        for kind in asked.kinds
    ]
    return sum(often) / len(asked.questions)


def test_dense_answers_and_random_dropping_costs(answered: dict[str, Answers], asked: QuestionSet) -> None:
    dense, random = answered["dense"], answered["random 10 %"]
    assert dense.share().interval[0] > guessing(asked) + 0.3
    assert random.against(dense).difference < -0.05 and random.against(dense).p < 0.01


def test_tokens_of_the_wrong_picture_are_worth_a_guess(answered: dict[str, Answers], asked: QuestionSet) -> None:
    """99.9 % kept, hence almost no token lost: only what they say is wrong."""
    wrong = answered["next door"]
    low, _ = wilson(wrong.share().right, wrong.share().asked)
    assert low <= guessing(asked), "its interval reaches down to guessing"
    assert wrong.against(answered["random 10 %"]).p < 0.001


def test_the_tokens_that_nobody_looks_at_are_the_wrong_ones(answered: dict[str, Answers]) -> None:
    found = answered["wrong way round 10 %"].against(answered["fastv 10 %"])
    assert found.difference < -0.1 and found.p < 0.01


@pytest.fixture(scope="module")
def few_dense(adapter: HuggingFaceAdapter, asked: QuestionSet) -> list[Reply]:
    return Responder(adapter, new_tokens=3).replies([policies.build("dense")], asked.questions[:FEW])[0]


@pytest.mark.parametrize("name", NAMES)
def test_keep_one_gives_the_dense_answers(
    adapter: HuggingFaceAdapter, asked: QuestionSet, few_dense: list[Reply], name: str
) -> None:
    policy = policies.build(name, keep=1.0)
    try:
        check_fit(policy, scene_of(Workload(image_size=asked.questions[0].sizes[0]), adapter.entry))  # type: ignore[call-arg]
    except TokprofError as refusal:
        pytest.skip(f"refused: {refusal.message}")
    (replies,) = Responder(adapter, new_tokens=3).replies([policy], asked.questions[:FEW])
    assert [reply.said for reply in replies] == [reply.said for reply in few_dense]
    accuracy = Answers.of(policy, asked.first(FEW), replies).share().value
    assert accuracy == Answers.of(policies.build("dense"), asked.first(FEW), few_dense).share().value
