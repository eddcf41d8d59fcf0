"""Ask a model many questions under several policies: in batches of one layout and one prompt length, greedily."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from tokprof.engine.request import Outcome, run_request
from tokprof.errors import MachineError, UnsupportedError
from tokprof.flops import analytic
from tokprof.layout import Size
from tokprof.measure.clock import NoClock
from tokprof.models.adapter import Prepared
from tokprof.models.huggingface import HuggingFaceAdapter
from tokprof.policies.base import Policy
from tokprof.workload import Request, layout_of, shrunk

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH = 8
Progress = Callable[[int], None]  # answers that came in


class Asked(Protocol):
    """Pictures (or a video's frames) and a prompt. `sizes` are known before the pictures are opened."""

    @property
    def sizes(self) -> tuple[Size, ...]: ...

    @property
    def prompt(self) -> str: ...

    @property
    def video(self) -> bool: ...

    def pictures(self) -> tuple[Image, ...]: ...


@dataclass(frozen=True)
class Reply:
    """What was said, and what it cost: visual tokens per decoder layer, exact FLOPs until the first new token."""

    said: str
    layer_mean: float
    flops: int


@dataclass(frozen=True)
class Responder:
    """A model that answers. `new_tokens` at most; an answer is over at the end of sequence."""

    adapter: HuggingFaceAdapter
    new_tokens: int
    batch: int = BATCH
    official_scores: bool = False

    def __post_init__(self) -> None:
        if self.adapter.tokenizer is None:
            raise UnsupportedError(
                f"{self.adapter.shape.name} has no tokenizer at hand, so its answers cannot be read",
                "give a folder or a repository with tokenizer files",
            )

    def replies(
        self, policies: Sequence[Policy], questions: Sequence[Asked], progress: Progress = lambda count: None
    ) -> list[list[Reply]]:
        """Per policy, an answer to each question. Who decides by the data is asked one question at a time:
        in a batch such a policy acts only where all samples agree."""
        found: list[list[Reply | None]] = [[None] * len(questions) for _ in policies]
        for size, alone in ((self.batch, False), (1, True)):
            chosen = [index for index, policy in enumerate(policies) if policy.data_decided == alone]
            for members in self._batches(questions, size) if chosen else ():
                batch = [questions[index] for index in members]
                for place, answers in zip(chosen, self._answered([policies[i] for i in chosen], batch), strict=True):
                    for index, reply in zip(members, answers, strict=True):
                        found[place][index] = reply
                    progress(len(members))
        return [[reply for reply in answers if reply is not None] for answers in found]

    def _batches(self, questions: Sequence[Asked], size: int) -> Iterator[list[int]]:
        """Indices of questions that fit together, in order within each group."""
        groups = defaultdict(list)
        shape = self.adapter.shape
        for index, asked in enumerate(questions):
            layout = layout_of(shape, asked.sizes, video=asked.video)
            length = len(self.adapter.encoded(asked.prompt, 1 if asked.video else len(asked.sizes), asked.video))
            alike = asked.sizes[0] if asked.video else None
            groups[layout, alike, length].append(index)
        for members in groups.values():
            for start in range(0, len(members), size):
                yield members[start : start + size]

    def _answered(self, policies: Sequence[Policy], batch: Sequence[Asked]) -> Iterator[list[Reply]]:
        """Policies share the inputs; one that wants smaller pictures gets its own."""
        try:
            samples = [asked.pictures() for asked in batch]
            prepared = self._prepared(batch, samples)
            for policy in policies:
                scale = 1.0 if policy.identity else policy.image_scale(prepared.scene)
                if scale == 1.0:
                    yield self._replies(policy, prepared)
                    continue
                shape, video = self.adapter.shape, batch[0].video
                smaller = [tuple(shrunk(each, scale, shape, video=video) for each in sample) for sample in samples]
                yield self._replies(policy, self._prepared(batch, smaller))
        except torch.OutOfMemoryError as error:
            raise MachineError(f"out of memory with {len(batch)} questions at once", "lower --batch") from error

    def _prepared(self, batch: Sequence[Asked], samples: Sequence[tuple[Image, ...]]) -> Prepared:
        video = batch[0].video
        layout = layout_of(self.adapter.shape, [picture.size for picture in samples[0]], video=video)
        prompts = tuple(asked.prompt for asked in batch)
        request = Request(samples=tuple(samples), video=video, prompts=prompts, description="questions", layout=layout)
        return self.adapter.prepare_request(request)

    def _replies(self, policy: Policy, prepared: Prepared) -> list[Reply]:
        outcome = run_request(
            self.adapter,
            policy,
            prepared,
            NoClock(),
            self.new_tokens,
            attention=self.adapter.attention,
            checked=True,
            official_scores=self.official_scores,
            ends=self.adapter.ends,
        )
        flops, layer_mean = _flops(policy, prepared, outcome), sum(outcome.per_layer) / len(outcome.per_layer)
        return [Reply(self._text(row), layer_mean, flops) for row in outcome.tokens.tolist()]

    def _text(self, tokens: list[int]) -> str:
        ends = self.adapter.ends
        over = next((index for index, token in enumerate(tokens) if token in ends), len(tokens))
        text: str = self.adapter.tokenizer.decode(tokens[:over], skip_special_tokens=True)
        return text.strip()


def _flops(policy: Policy, prepared: Prepared, outcome: Outcome) -> int:
    """Of one sample until its first new token: answers differ in length, prompts are what policies shorten."""
    observed = None if policy.schedule(prepared.scene).exact else outcome.per_layer
    asked = analytic.request(policy, prepared.scene, 1, observed_layers=observed)
    return analytic.exact(asked).total // prepared.batch
