"""PyramidDrop: drop visual tokens in stages by the last token's attention in the layer about to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokprof.errors import ParameterError
from tokprof.policies.attention_costs import attention_at
from tokprof.policies.base import Cost, DecoderView, Edit, Need, Newlines, Positions, Scene
from tokprof.policies.stages import Staged, bisect, layer_share, scaled

PUBLISHED_SHARE = 270 / 576  # layer mean of λ = 0.5 at 8, 16, 24
LOW_BUDGET_LAYERS = (2, 8, 16)


@dataclass(frozen=True, kw_only=True)
class PDrop(Staged):
    """λ, λ², λ³ of the original tokens left after three stops (section 3.2), truncated as int() does.

    `keep`: layer mean, as a share. The published 270/576 is λ = 0.5 at 8, 16, 24 of 32; from there up
    λ is solved at these stops. They cannot go below a quarter, so lower budgets move to 2, 8, 16 with
    λ solved, as the author advises (issues 10 and 29). `lambda_` and `layers` override.

    Score: q of the last instruction token and k from the layer that comes *next*, applied to the
    states before pruning; softmax over the whole row in fp32, mean over heads. Rotary ids are
    renumbered before that layer runs. Newline tokens are candidates like all others.
    """

    name: ClassVar[str] = "pdrop"
    paper: ClassVar[str] = "PyramidDrop: Pyramid Visual Redundancy Reduction, CVPR 2025, arXiv 2410.17247v2"
    acts: ClassVar[str] = "decoder, three cuts"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.ROW_ATTENTION})
    published_layers: ClassVar[tuple[int, ...]] = (8, 16, 24)

    keep: float = PUBLISHED_SHARE
    newlines: Newlines = "candidates"
    lambda_: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lambda_ is not None and not 0 < self.lambda_ < 1:
            raise ParameterError(f"pdrop: lambda_={self.lambda_!r}", "a number between 0 and 1, such as 0.5")

    @property
    def explicit(self) -> bool:
        return self.lambda_ is not None

    @property
    def positions(self) -> Positions:
        return "compacted"

    def stops(self, depth: int) -> tuple[int, ...]:
        if not self.explicit and not self.layers and self.keep < PUBLISHED_SHARE:
            return scaled(LOW_BUDGET_LAYERS, self.published_depth, depth)
        return super().stops(depth)

    def counts(self, visual: int, depth: int) -> tuple[int, ...]:
        stops = self.stops(depth)

        def shares(ratio: float) -> list[float]:
            return [ratio**stage for stage in range(1, len(stops) + 1)]

        ratio = self.lambda_
        if ratio is None:
            ratio = bisect(lambda tried: layer_share(depth, stops, shares(tried)), self.keep)
        return tuple(max(1, int(visual * share + 1e-9)) for share in shares(ratio))

    def edit_decoder(self, view: DecoderView) -> Edit:
        return Edit.top(view.attention("last", layer="next"), self.left(view))

    def costs(self, scene: Scene) -> list[Cost]:
        return attention_at(self.stops(scene.depth), scene, self.plan(scene), "last", layer="next")
