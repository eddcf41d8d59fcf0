"""VoCo-LLaMA: a few compression tokens read the picture once; the rest of the prompt reads only them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokprof.errors import ParameterError, UnsupportedError
from tokprof.policies.base import Newlines, Plan, Policy, Scene
from tokprof.policies.shares import rounded


@dataclass(frozen=True, kw_only=True)
class VoCoLLaMA(Policy):
    """V compression tokens behind the picture, prefilled in two passes.

    First pass: the text before, all N visual tokens and the V tokens, through every layer; then only
    the V tokens' keys and values remain (section 3.2: rows behind them see neither picture nor system
    prompt). Second pass: the text behind, reading those. `keep`: V / N; `tokens`: V itself (the code
    fixes 2). Rotary ids keep the gap.

    Trap: the official code does it in one pass with a 4-D mask and keeps every key and value. Two
    passes give the same numbers, run with any attention kernel and really free the cache. The tokens'
    embedding is trained; here it is an untrained one, so cost is real and answers are not.
    """

    name: ClassVar[str] = "voco_llama"
    paper: ClassVar[str] = (
        "VoCo-LLaMA: Towards Vision Compression with Large Language Models, CVPR 2025, arXiv 2406.12275"
    )
    acts: ClassVar[str] = "decoder, a pass of its own"
    training_based: ClassVar[bool] = True

    keep: float = 2 / 576
    newlines: Newlines = "candidates"
    tokens: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens is not None and (not isinstance(self.tokens, int) or self.tokens < 1):
            raise ParameterError(f"voco_llama: tokens={self.tokens!r}", "a whole number from 1 on")

    @property
    def identity(self) -> bool:
        return self.keep >= 1.0 and self.tokens is None

    def check(self, scene: Scene) -> None:
        if scene.layout.images > 1:
            raise UnsupportedError(
                "voco_llama compresses one picture, and this prompt has more", "ask about one picture"
            )
        if not scene.text_after:
            raise UnsupportedError(
                "voco_llama reads text behind the picture, and there is none", "put the question there"
            )

    def compress_tokens(self, scene: Scene) -> int:
        return self.tokens or rounded(self.keep, scene.layout.count)

    def plan(self, scene: Scene) -> Plan:
        return Plan(layers=(self.compress_tokens(scene),) * scene.depth, cached_text=scene.text_after)
