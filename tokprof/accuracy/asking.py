"""A question set and a grid of methods → an `Evaluation`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokprof.accuracy.evaluation import Answers, Evaluation
from tokprof.accuracy.question_file import read_questions
from tokprof.accuracy.questions import QuestionSet, bundled_questions
from tokprof.fit import check_fit
from tokprof.models.catalog import Entry
from tokprof.models.prompts import estimated_text
from tokprof.workload import layout_of, scene

if TYPE_CHECKING:
    from tokprof.profiler import Listener
    from tokprof.resolve import Ready

HELD_OUT = 1000


def question_set(path: Path | None, limit: int | None, entry: Entry) -> QuestionSet:
    """The user's own, or the bundled ones."""
    if path is not None:
        return read_questions(path).first(limit)
    return bundled_questions(limit or HELD_OUT, entry)


def check_fits(cells: Sequence[Ready], asked: QuestionSet) -> None:
    """Do the methods make sense on these pictures? Asked before any weight is loaded."""
    entry = cells[0].entry
    for sizes in {question.sizes for question in asked.questions}:
        layout = layout_of(entry.shape, sizes)
        before, after = estimated_text(entry.template, len(sizes), asked.questions[0].prompt)
        for cell in cells:
            check_fit(cell.policy, scene(entry, layout, before, after, 1))


def evaluate(
    cells: Sequence[Ready], asked: QuestionSet, *, batch: int | None, new_tokens: int, listener: Listener
) -> Evaluation:
    """The first cell is the unpruned model."""
    from tokprof.accuracy.answering import BATCH, Responder
    from tokprof.session import Session

    session = Session(cells[0], listener)
    adapter, device = session.adapter, session.environment.device
    policies = [cell.policy for cell in cells]
    done, total = 0, len(policies) * len(asked.questions)

    def progress(count: int) -> None:
        nonlocal done
        done += count
        listener.on_stage(f"{done:,} of {total:,} answers", 0)

    listener.on_stage(f"{total:,} answers", 0)
    replies = Responder(adapter, new_tokens, batch or BATCH).replies(policies, asked.questions, progress)
    rows = [Answers.of(policy, asked, given) for policy, given in zip(policies, replies, strict=True)]
    about = (session.model, adapter.weights, cells[0].dtype, f"{adapter.attention} attention", device.name)
    return Evaluation(
        model=session.model,
        about=" · ".join(about),
        trained=adapter.trained,
        asked=asked,
        dense=rows[0],
        policies=tuple(rows[1:]),
    )
