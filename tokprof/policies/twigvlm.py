"""TwigVLM: a few layers grown beside an early stop choose the visual tokens for the rest of the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from tokprof.errors import ParameterError
from tokprof.policies.attention_costs import attention_macs
from tokprof.policies.base import Cost, DecoderView, Edit, Need, Plan, Scene
from tokprof.policies.stages import Staged


@dataclass(frozen=True, kw_only=True)
class TwigVLM(Staged):
    """At stop K = 2 run T = 3 twig layers on everything, keep what their last query looks at, wipe the rest at 24.

    Score (section 3.2): attention of the last twig layer, last query row, mean over heads. Left after
    K: ⌈(L·R − K·N) / (K_f − K)⌉ for a layer mean of R, K_f = 24 of 32 being the stop where every
    visual token goes. `keep`: R as a share; the mean leaves the twig's own layers out, the FLOPs do
    not. `layers`: K, K_f. `twig`: T.

    The twig is trained; here it is an untrained copy of layers K … K + T − 1, from which training
    starts. So cost is real and the choice of tokens is not the paper's. Its KV is discarded, as
    without speculative decoding.
    """

    name: ClassVar[str] = "twigvlm"
    paper: ClassVar[str] = "Growing a Twig to Accelerate Large Vision-Language Models, ICCV 2025, arXiv 2503.14075"
    acts: ClassVar[str] = "decoder, extra layers, one cut, early exit"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.ROW_ATTENTION, Need.EXTRA_LAYERS})
    published_layers: ClassVar[tuple[int, ...]] = (2, 24)
    training_based: ClassVar[bool] = True

    keep: float = 64 / 576
    twig: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.twig, int) or self.twig < 1:
            raise ParameterError(f"twigvlm: twig={self.twig!r}", "a whole number of layers from 1 on")
        if self.layers and len(self.layers) != 2:
            raise ParameterError(f"twigvlm: layers={self.layers}", "two layers: where the twig grows, and the exit")

    def side_layers(self, depth: int) -> tuple[int, ...]:
        first = self.stops(depth)[0]
        return tuple(range(first, min(first + self.twig, depth)))

    def side_stop(self, depth: int) -> int:
        return self.stops(depth)[0]

    def reachable(self, depth: int) -> tuple[float, float]:
        first, last = self.stops(depth)
        return first / depth, last / depth

    def check(self, scene: Scene) -> None:
        if len(self.stops(scene.depth)) < 2:
            raise ParameterError(f"twigvlm: a model of {scene.depth} layers has no room for its two stops", "")
        super().check(scene)

    def counts(self, visual: int, depth: int) -> tuple[int, ...]:
        first, last = self.stops(depth)
        left = (depth * self.keep - first) * visual / (last - first)
        return (min(max(1, math.ceil(left - 1e-9)), visual), 0)

    def plan(self, scene: Scene) -> Plan:
        side = self.side_layers(scene.depth)
        return Plan(layers=super().plan(scene).layers, side_layers=(scene.visual,) * len(side))

    def edit_decoder(self, view: DecoderView) -> Edit:
        left = self.left(view)
        return Edit.top(view.attention("last", layer="previous"), left) if left else Edit.drop_all()

    def costs(self, scene: Scene) -> list[Cost]:
        return [Cost("attention of the twig", attention_macs(scene, "last", scene.visual, layer="previous"))]
