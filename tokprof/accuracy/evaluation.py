"""The answers of the unpruned model and of every policy to one question set, and what follows from them. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tokprof.accuracy.proportions import Paired, paired, wilson
from tokprof.accuracy.questions import QuestionSet
from tokprof.accuracy.scoring import YesNo, yes_no_summary
from tokprof.record import Accuracy

if TYPE_CHECKING:
    from tokprof.accuracy.answering import Reply
    from tokprof.policies.base import Policy

OVERALL = "all"


@dataclass(frozen=True)
class Share:
    """Right of asked; `right` is a sum of scores where answers can be partly right."""

    right: float
    asked: int

    @property
    def value(self) -> float:
        return self.right / self.asked

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.right, self.asked)


@dataclass(frozen=True)
class Answers:
    """One policy's, in the order of the questions."""

    method: str
    parameters: dict[str, Any]
    asked: QuestionSet
    said: tuple[str, ...]
    layer_mean: float  # visual tokens per decoder layer and question
    flops: float  # per question, until the first new token

    @classmethod
    def of(cls, policy: Policy, asked: QuestionSet, replies: Sequence[Reply]) -> Answers:
        return cls(
            method=policy.name,
            parameters={} if policy.identity else policy.parameters(),
            asked=asked,
            said=tuple(reply.said for reply in replies),
            layer_mean=math.fsum(reply.layer_mean for reply in replies) / len(replies),
            flops=sum(reply.flops for reply in replies) / len(replies),
        )

    @cached_property
    def scores(self) -> tuple[float, ...]:
        return tuple(question.rate(said) for question, said in zip(self.asked.questions, self.said, strict=True))

    def share(self, kind: str = OVERALL) -> Share:
        pairs = zip(self.asked.questions, self.scores, strict=True)
        scores = [score for question, score in pairs if kind in (OVERALL, question.kind)]
        return Share(math.fsum(scores), len(scores))

    @property
    def yes_no(self) -> YesNo | None:
        pairs = zip(self.said, self.asked.questions, strict=True)
        return yes_no_summary([(said, asked.answers[0]) for said, asked in pairs if asked.score == "yes-no"])

    def against(self, dense: Answers) -> Paired:
        return paired(self.scores, dense.scores)

    def accuracy(self) -> Accuracy:
        """For a record; every answer is either right or wrong."""
        by_kind = {kind: (round(self.share(kind).right), self.share(kind).asked) for kind in self.asked.kinds}
        share = self.share()
        return Accuracy(
            source="this run",
            task=self.asked.task,
            questions=share.asked,
            correct=round(share.right),
            by_kind=by_kind,
        )


@dataclass(frozen=True)
class Evaluation:
    """`about`: the model and the machine, in words."""

    model: str
    about: str
    trained: bool
    asked: QuestionSet
    dense: Answers
    policies: tuple[Answers, ...]

    @property
    def rows(self) -> tuple[Answers, ...]:
        return (self.dense, *self.policies)

    def as_data(self) -> dict[str, Any]:
        """For --json: every answer, and the summaries of the table."""
        return {
            "kind": "tokprof.evaluation",
            "schema_version": 1,
            "model": self.model,
            "about": self.about,
            "trained": self.trained,
            "task": self.asked.task,
            "questions": [
                {"kind": asked.kind, "score": asked.score, "question": asked.text, "answers": asked.answers}
                for asked in self.asked.questions
            ],
            "arms": [self._arm(row) for row in self.rows],
        }

    def _arm(self, row: Answers) -> dict[str, Any]:
        found = row.yes_no
        return {
            "method": row.method,
            "parameters": row.parameters,
            "visual_tokens_layer_mean": row.layer_mean,
            "flops_to_first_token": row.flops,
            "accuracy": _share(row.share()),
            "by_kind": {kind: _share(row.share(kind)) for kind in self.asked.kinds},
            "yes_no": asdict(found) if found else None,
            "paired_with_dense": None if row is self.dense else asdict(row.against(self.dense)),
            "answers": [{"said": said, "score": score} for said, score in zip(row.said, row.scores, strict=True)],
        }


def _share(found: Share) -> dict[str, Any]:
    low, high = found.interval
    return {"right": found.right, "asked": found.asked, "share": found.value, "interval_95": [low, high]}
