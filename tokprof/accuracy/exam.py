"""The accuracy column of `tokprof run`: bundled questions, asked of the unpruned model once and of each policy."""

from __future__ import annotations

from functools import cached_property

from tokprof import policies
from tokprof.accuracy.answering import Responder
from tokprof.accuracy.evaluation import Answers
from tokprof.accuracy.questions import QuestionSet
from tokprof.models.huggingface import HuggingFaceAdapter
from tokprof.policies.base import Policy
from tokprof.record import Accuracy

ANSWER_TOKENS = 4  # every bundled answer and the end of sequence


class Exam:
    def __init__(self, adapter: HuggingFaceAdapter, asked: QuestionSet, *, official_scores: bool = False) -> None:
        self._asked = asked
        self._responder = Responder(adapter, ANSWER_TOKENS, official_scores=official_scores)

    @cached_property
    def dense(self) -> Accuracy:
        return self.taken_by(policies.build("dense"))

    def taken_by(self, policy: Policy) -> Accuracy:
        (replies,) = self._responder.replies([policy], self._asked.questions)
        return Answers.of(policy, self._asked, replies).accuracy()
