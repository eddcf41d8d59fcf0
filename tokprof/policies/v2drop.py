"""V²Drop: drop the visual tokens that the last layer hardly changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tokprof.errors import ParameterError
from tokprof.policies.base import DecoderView, Edit, Need
from tokprof.policies.stages import Staged, bisect, layer_share, numbers, scaled

if TYPE_CHECKING:
    from torch import Tensor

# depth → (stops, {layer-mean share: ratio of the tokens still present that each stop keeps})
PUBLISHED = {
    32: ((3, 17, 22), {192 / 576: (0.5, 0.3, 0.0), 128 / 576: (0.28, 0.25, 0.0), 64 / 576: (0.05, 0.05, 0.0)}),
    28: ((3, 16, 22), {0.2259: (0.25, 0.05, 0.0)}),
}
SECOND_RATIO = {32: 0.3, 28: 0.05}
PRESET_WIDTH = 0.001  # a `keep` of 0.333 means the preset of 192/576


@dataclass(frozen=True, kw_only=True)
class V2Drop(Staged):
    """Keep the tokens with the largest update s_i = ‖h_b[i] − h_{b−1}[i]‖ at stops 3, 17 and 22 of 32.

    `keep`: layer mean, as a share. On 32 layers 192/576, 128/576 and 64/576 are the paper's budgets
    (it drops 50/70/100, 72/75/100 and 95/95/100 % of the tokens *still present*; layer means 193.8,
    131.0 and 66.7); on 28 layers 0.226 is the Qwen2-VL file's. Every other `keep`, the video budgets
    included, is *derived*: the second ratio and the end stay as published and the first ratio is
    solved; where that is not enough, the second and then the third ratio rise with it.
    `ratios`: shares of the tokens still present that each stop keeps, instead; the released LLaVA
    file has 0.5,0.5,0 (layer mean 202.8), unlike the paper. `least`: what "100 %" leaves, 1 in the
    code (which the layer means assume), 0 in the paper's words.

    `metric`: l2, l1 or cosine. Trap: eq. 2 prints the cosine itself while a *larger change* should
    count as more important; this is 1 − cos. Differences and norms are taken in fp32.
    """

    name: ClassVar[str] = "v2drop"
    paper: ClassVar[str] = (
        "Variation-aware Vision Token Dropping for Faster Large Vision-Language Models, arXiv 2509.01552v1"
    )
    acts: ClassVar[str] = "decoder, three cuts"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.HIDDEN_BEFORE})

    keep: float = 192 / 576
    ratios: tuple[float, ...] = ()
    metric: Literal["l2", "l1", "cosine"] = "l2"
    least: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("metric", ("l2", "l1", "cosine"))
        self.check_choice("least", (0, 1))
        ratios = numbers(self.ratios, self.name, "ratios")
        if not all(0 <= ratio <= 1 for ratio in ratios):
            raise ParameterError(f"v2drop: ratios={ratios}", "the share each stop keeps, such as 0.5,0.3,0")
        object.__setattr__(self, "ratios", ratios)

    @property
    def explicit(self) -> bool:
        return bool(self.ratios)

    def stops(self, depth: int) -> tuple[int, ...]:
        published = PUBLISHED[depth][0] if depth in PUBLISHED else scaled(PUBLISHED[32][0], 32, depth)
        return self.layers or published

    def stop_ratios(self, depth: int) -> tuple[float, ...]:
        """Share of the tokens still present that each stop keeps."""
        if self.ratios:
            return self.ratios
        stops = self.stops(depth)
        for share, ratios in PUBLISHED.get(depth, ((), {}))[1].items():
            if not self.layers and abs(self.keep - share) <= PRESET_WIDTH:
                return ratios
        published = SECOND_RATIO.get(depth, SECOND_RATIO[32])

        def ratios_at(level: float) -> tuple[float, ...]:
            """0 … 1 raises the first ratio, 1 … 2 those in the middle, 2 … 3 the last one."""
            first = min(level, 1.0)
            middle = published + (1 - published) * min(max(level - 1, 0.0), 1.0)
            last = max(level - 2, 0.0)
            return (first, *(middle for _ in stops[1:-1]), last)[: len(stops)]

        def reached(level: float) -> float:
            return layer_share(depth, stops, cumulated(ratios_at(level)))

        return ratios_at(bisect(reached, self.keep, 0.0, 3.0))

    def counts(self, visual: int, depth: int) -> tuple[int, ...]:
        counts, count = [], visual
        for ratio in self.stop_ratios(depth):
            count = max(min(self.least, count), math.floor(ratio * count))
            counts.append(count)
        return tuple(counts)

    def edit_decoder(self, view: DecoderView) -> Edit:
        left = self.left(view)
        return Edit.top(variation(view.tokens, view.before, self.metric), left) if left else Edit.drop_all()


def cumulated(ratios: tuple[float, ...]) -> tuple[float, ...]:
    """Shares of all tokens, from shares of the tokens still present."""
    return tuple(math.prod(ratios[: index + 1]) for index in range(len(ratios)))


def variation(after: Tensor, before: Tensor, metric: str) -> Tensor:
    """How much a layer changed each token: (…, tokens)."""
    import torch

    after, before = after.float(), before.float()
    if metric == "cosine":
        return 1 - torch.nn.functional.cosine_similarity(after, before, dim=-1)
    change = after - before
    return change.abs().sum(dim=-1) if metric == "l1" else change.square().sum(dim=-1).sqrt()
