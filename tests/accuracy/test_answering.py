"""Many questions in batches get the answers that each would get alone, and that Hugging Face's `generate` gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.models.tiny import tiny
from tokprof import policies
from tokprof.accuracy.answering import Responder
from tokprof.accuracy.questions import SHORTLY, Question, demo_questions
from tokprof.errors import UnsupportedError
from tokprof.models import load
from tokprof.models.huggingface import HuggingFaceAdapter

NEW_TOKENS = 4
DENSE = policies.build("dense")


@pytest.fixture(scope="module")
def adapter() -> HuggingFaceAdapter:
    return load("demo")


@pytest.fixture(scope="module")
def ragged() -> list[Question]:
    """Prompts of several lengths, pictures of two layouts, in no order."""
    questions = list(demo_questions(8).questions)
    for index in (1, 4):
        wide = questions[index].pictures()[0].resize((300, 150))
        questions[index] = replace(questions[index], images=(wide,), sizes=(wide.size,))
    return questions


def test_what_a_question_needs_is_all_that_a_responder_asks(ragged: list[Question]) -> None:
    assert len({question.sizes for question in ragged}) == 2
    assert len({len(question.text.split()) for question in ragged}) > 2


def test_batches_answer_as_hugging_face_does(adapter: HuggingFaceAdapter, ragged: list[Question]) -> None:
    from transformers import AutoProcessor

    from tokprof.models.catalog import demo_folder

    processor: Any = AutoProcessor.from_pretrained(demo_folder())
    model: Any = adapter.model
    (replies,) = Responder(adapter, NEW_TOKENS).replies([DENSE], ragged)
    for question, reply in zip(ragged, replies, strict=True):
        content = [{"type": "image"}, {"type": "text", "text": question.prompt}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(images=question.pictures()[0], text=text, add_special_tokens=False, return_tensors="pt")
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)[0, inputs["input_ids"].shape[1] :]
        assert reply.said == processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()


def test_a_batch_changes_no_answer(adapter: HuggingFaceAdapter, ragged: list[Question]) -> None:
    asked = [policies.build(name, keep=0.3) for name in ("fastv", "todre", "downsample")]
    progress: list[int] = []
    together = Responder(adapter, NEW_TOKENS, batch=3).replies(asked, ragged, progress.append)
    alone = Responder(adapter, NEW_TOKENS, batch=1).replies(asked, ragged)
    assert [[reply.said for reply in row] for row in together] == [[reply.said for reply in row] for row in alone]
    assert sum(progress) == len(asked) * len(ragged)
    for policy, row in zip(asked, together, strict=True):
        if not policy.data_decided:
            for reply, other in zip(row, alone[asked.index(policy)], strict=True):
                assert (reply.layer_mean, reply.flops) == (other.layer_mean, other.flops)


def test_fewer_tokens_cost_less_and_the_count_is_the_prompts(adapter: HuggingFaceAdapter) -> None:
    questions = demo_questions(2).questions
    dense, fastv = Responder(adapter, 1).replies([DENSE, policies.build("fastv", keep=0.25)], questions)
    assert {reply.layer_mean for reply in dense} == {744.0}
    assert all(mine.flops < theirs.flops for mine, theirs in zip(fastv, dense, strict=True))


def test_an_answer_is_over_at_the_end_of_sequence(adapter: HuggingFaceAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = demo_questions(2).questions
    monkeypatch.setattr(HuggingFaceAdapter, "ends", frozenset())
    responder = Responder(adapter, NEW_TOKENS, batch=1)
    prepared = responder._prepared(questions[:1], [questions[0].pictures()])
    tokens = _tokens(responder, prepared)
    assert len(tokens) == NEW_TOKENS
    first_of_second = next((index for index, token in enumerate(tokens) if token != tokens[0]), None)
    over = tokens[first_of_second or 0]
    monkeypatch.setattr(HuggingFaceAdapter, "ends", frozenset({over}))
    (replies,) = responder.replies([DENSE], questions[:1])
    kept = tokens[: first_of_second or 0]
    assert replies[0].said == adapter.tokenizer.decode(kept, skip_special_tokens=True).strip()
    assert len(_tokens(responder, prepared)) == len(kept) + 1, "no step after the last answer is over"


def _tokens(responder: Responder, prepared: Any) -> list[int]:
    from tokprof.engine.request import run_request
    from tokprof.measure.clock import NoClock

    ends = responder.adapter.ends
    found = run_request(responder.adapter, DENSE, prepared, NoClock(), responder.new_tokens, ends=ends).tokens
    row: list[int] = found[0].tolist()
    return row


def test_a_model_that_talks_is_asked_for_a_short_answer() -> None:
    asked = demo_questions(3)
    for plain, short in zip(asked.questions, asked.shortly().questions, strict=True):
        assert short.prompt == f"{plain.prompt}\n{SHORTLY}" and short.answers == plain.answers


def test_without_a_tokenizer_answers_cannot_be_read() -> None:
    with pytest.raises(UnsupportedError, match="no tokenizer"):
        Responder(tiny("llava-next"), NEW_TOKENS)


@dataclass(frozen=True)
class Filmed:
    """A video: frames instead of pictures."""

    question: Question
    video: bool = True

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        return self.question.sizes

    @property
    def prompt(self) -> str:
        return self.question.prompt

    def pictures(self) -> Any:
        return self.question.pictures()


def test_a_model_without_videos_is_not_shown_one(adapter: HuggingFaceAdapter) -> None:
    from tokprof.errors import TokprofError

    with pytest.raises(TokprofError):
        Responder(adapter, 1).replies([DENSE], [Filmed(demo_questions(1).questions[0])])
