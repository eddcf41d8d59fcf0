"""A model of lmms-eval that answers under a policy: greedy, one process, questions of one shape in a batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from tokprof.accuracy.answering import BATCH, Responder
from tokprof.errors import InputError, UnsupportedError
from tokprof.layout import Size
from tokprof.profiler import Listener
from tokprof.recipe import Method, Recipe, Setting, Workload
from tokprof.resolve import resolve, with_layer_means
from tokprof.session import Session
from tokprof.workload import request_of

try:
    from lmms_eval.api.model import lmms
    from loguru import logger
    from tqdm import tqdm
except ImportError as error:
    raise InputError(f"lmms-eval is not there ({error})", "pip install 'tokprof[eval]'") from error

if TYPE_CHECKING:
    from PIL.Image import Image

    from tokprof.models.catalog import Entry

LONGEST_ANSWER = 1024  # where a task does not say
PLACEHOLDERS = ("<image>", "<video>")


class Tokprof(lmms):  # type: ignore[misc]
    """`--model_args pretrained=…,method=…,keep=…` and the method's own parameters.

    `pretrained`: a name from `tokprof models`, a folder, or a repository. `tokens`: instead of `keep`,
    visual tokens on the mean over layers. `frames`: of a video.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str = "demo",
        method: str = "dense",
        keep: float | None = None,
        tokens: float | None = None,
        frames: int | None = None,
        dtype: str = "auto",
        attention: str = "sdpa",
        weights: str = "auto",
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__()
        budget = {} if keep is None else {"keep": float(keep)}
        recipe = Recipe(
            models=(str(pretrained),),
            methods=(Method(name=method, parameters={**budget, **parameters}),),
            setting=Setting(device=device or "auto", dtype=dtype, attention=attention, weights=weights),  # type: ignore[arg-type]
        )
        if tokens is not None:
            recipe = with_layer_means(recipe, [float(tokens)])
        (cell,) = resolve(recipe)
        session = Session(cell, Listener(on_note=logger.warning))
        self.policy, self.entry, self.frames = cell.policy, cell.entry, frames
        self.adapter, self._device = session.adapter, session.device
        self.batch = int(batch_size) if batch_size is not None and str(batch_size).isdigit() else BATCH
        logger.info(f"{self.policy.name} {self.policy.parameters()} on {session.model} ({self.adapter.weights})")

    @property
    def device(self) -> str:
        return self._device

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        asked = [self._document(*request.args) for request in requests]
        if any(one.samples for one in asked):
            logger.warning("tokprof answers greedily; the task's sampling or beams are not used")
        by_length = defaultdict(list)
        for index, one in enumerate(asked):
            by_length[one.new_tokens].append(index)
        found: dict[int, str] = {}
        with tqdm(total=len(asked), disable=self.rank != 0, desc=f"tokprof, {self.policy.name}") as bar:
            for new_tokens, members in by_length.items():
                responder = Responder(self.adapter, new_tokens, self.batch)
                (replies,) = responder.replies([self.policy], [asked[index] for index in members], bar.update)
                found |= {index: asked[index].until(reply.said) for index, reply in zip(members, replies, strict=True)}
        for index, one in enumerate(asked):
            self.cache_hook.add_partial("generate_until", (one.context, one.options), found[index])
        return [found[index] for index in range(len(asked))]

    def _document(
        self,
        context: str,
        options: dict[str, Any],
        doc_to_visual: Callable[[Any], list[Any]],
        doc_id: int,
        task: str,
        split: str,
    ) -> _Document:
        """The six things that lmms-eval hands over with a request."""

        def visuals() -> list[Any]:
            return doc_to_visual(self.task_dict[task][split][doc_id]) or []

        return _Document(context, options, visuals, f"{task}, document {doc_id}", self.entry, self.frames)

    def loglikelihood(self, requests: Sequence[Any]) -> NoReturn:
        raise UnsupportedError("tokprof generates answers; it does not rate given ones", "choose a generate_until task")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> NoReturn:
        raise UnsupportedError("tokprof answers one turn, not a conversation", "choose a generate_until task")


@dataclass(frozen=True)
class _Document:
    """One request of a task. Its pictures are opened when asked for, and not kept."""

    context: str
    options: dict[str, Any]
    visuals: Callable[[], list[Any]]
    name: str
    entry: Entry
    frames: int | None

    @property
    def new_tokens(self) -> int:
        return int(self.options.get("max_new_tokens", LONGEST_ANSWER))

    @property
    def samples(self) -> bool:
        return bool(self.options.get("do_sample")) or int(self.options.get("num_beams") or 1) > 1

    @property
    def prompt(self) -> str:
        """Pictures stand in front of the words, whatever the task's own placeholders say."""
        text = self.context
        for placeholder in PLACEHOLDERS:
            text = text.replace(placeholder, "")
        return text.strip()

    @cached_property
    def _facts(self) -> tuple[bool, tuple[Size, ...]]:
        visuals = self.visuals()
        video = any(isinstance(visual, str) for visual in visuals)
        return video, tuple(picture.size for picture in self._opened(visuals, video))

    @property
    def video(self) -> bool:
        return self._facts[0]

    @property
    def sizes(self) -> tuple[Size, ...]:
        return self._facts[1]

    def pictures(self) -> tuple[Image, ...]:
        return self._opened(self.visuals(), self.video)

    def _opened(self, visuals: Sequence[Any], video: bool) -> tuple[Image, ...]:
        if not visuals:
            raise UnsupportedError(f"{self.name} shows no picture", "choose a task whose questions all have pictures")
        if not video:
            return tuple(visual.convert("RGB") for visual in visuals)
        workload = Workload(video=str(visuals[0]), frames=self.frames)  # type: ignore[call-arg]
        return request_of(workload, self.entry).samples[0]

    def until(self, said: str) -> str:
        """Up to the first of the task's stop texts."""
        stops = self.options.get("until") or []
        for stop in [stops] if isinstance(stops, str) else stops:
            said = said.split(stop)[0] if stop else said
        return said.strip()
