"""ToDRE: tokens that differ from each other, then none once the text hardly looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tokprof.errors import ParameterError
from tokprof.policies.attention_costs import attention_at
from tokprof.policies.base import Cost, DecoderView, Edit, ImageView, Need, Plan, Policy, Scene, segments
from tokprof.policies.kcenter import choose_diverse, diversity_macs
from tokprof.policies.shares import floored
from tokprof.policies.stages import integers
from tokprof.policies.tower_costs import saliency_macs

if TYPE_CHECKING:
    from torch import Tensor

_LOOKING = frozenset({Need.ROW_ATTENTION, Need.COLUMN_ATTENTION})


@dataclass(frozen=True, kw_only=True)
class ToDRE(Policy):
    """Stage 1 (§4.1, eq. 3–6): greedy k-center over the projected tokens from a pivot. Stage 2 (§4.2, eq. 7): exit.

    `keep`: the share of visual tokens entering the decoder, floor(keep·N), one choice over thumbnail
    and tiles (25 % and 10 % of 2880 are 720 and 288). The pivot has the most attention of the class
    token, mean over heads (without one: the most attention received): within the thumbnail where
    there is one, else over the picture or all frames; `pivot_layer`: the tower's block, default the
    one behind the features.
    Stage 2 looks at layers L/2, 5L/8, 6L/8, 7L/8, rounded down, or at `layers` (table 6): once both
    the share of the text's attention that goes to visual tokens and the reverse are below `tau`,
    every visual token goes.
    "Text" is what follows the first visual token; under a causal mask the reverse share is 0 unless
    several pictures have text between them. In a batch all samples have to agree.
    `index_base`: whether layer ℓ is counted from 1 (exit before 0-based layer ℓ, default) or from 0
    (one later). `exit_layer`: an ℓ at which to exit unasked, or "never". `stages`: both, 1 or 2.
    `variant`: "v1" k-center; "v2" (the second arXiv version) greedy max-sum diversification.

    No official code is known. Masking chosen tokens follows eq. 4; kept tokens stay in order.
    """

    name: ClassVar[str] = "todre"
    paper: ClassVar[str] = "ToDRE: Visual Token Pruning via Diversity and Task Awareness, arXiv 2505.18757v1"
    acts: ClassVar[str] = "before the decoder, and exit in its second half"
    needs: ClassVar[frozenset[Need]] = _LOOKING | {Need.SALIENCY}
    data_decided: ClassVar[bool] = True

    keep: float = 0.1
    tau: float = 0.03
    layers: tuple[int, ...] = ()
    exit_layer: int | Literal["never"] | None = None
    stages: Literal["both", "1", "2"] = "both"
    index_base: Literal[1, 0] = 1
    pivot_layer: int | None = None
    variant: Literal["v1", "v2"] = "v1"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "stages", str(self.stages))
        self.check_choice("stages", ("both", "1", "2"))
        self.check_choice("index_base", (1, 0))
        self.check_choice("variant", ("v1", "v2"))
        self.check_share("tau", zero=True)
        object.__setattr__(self, "layers", integers(self.layers, "todre", "layers"))
        if self.exit_layer not in (None, "never") and not isinstance(self.exit_layer, int):
            raise ParameterError(f"todre: exit_layer={self.exit_layer!r}", 'a layer such as 16, or "never"')
        asks = self.exit_layer is None and self.stages != "1"
        object.__setattr__(self, "data_decided", asks)
        pivot = frozenset({Need.SALIENCY} if self.stages != "2" else ())
        object.__setattr__(self, "needs", pivot | (_LOOKING if asks else frozenset()))

    @property
    def identity(self) -> bool:
        return self.keep >= 1.0 and self.stages != "2"

    @property
    def edits_image(self) -> bool:
        return self.stages != "2"

    def check(self, scene: Scene) -> None:
        if isinstance(self.exit_layer, int) and not 0 < self._stop(self.exit_layer) < scene.depth:
            raise ParameterError(
                f"todre: exit_layer={self.exit_layer} on a model of {scene.depth} layers",
                f"a layer from {self.index_base} to {scene.depth - 2 + self.index_base}",
            )
        if self.pivot_layer is not None and not 0 <= self.pivot_layer < scene.model.vision.depth:
            raise ParameterError(
                f"todre: pivot_layer={self.pivot_layer}", f"a vision block from 0 to {scene.model.vision.depth - 1}"
            )

    def vision_layers(self, depth: int) -> tuple[int, ...]:
        return () if self.pivot_layer is None or self.stages == "2" else (self.pivot_layer,)

    def _stop(self, layer: int) -> int:
        return layer + 1 - self.index_base

    def decoder_stops(self, depth: int) -> tuple[int, ...]:
        if self.stages == "1" or self.exit_layer == "never":
            return ()
        layers: Sequence[int] = self.layers or [depth * eighths // 8 for eighths in (4, 5, 6, 7)]
        if self.exit_layer is not None:
            layers = (self.exit_layer,)
        return tuple(sorted({self._stop(layer) for layer in layers if 0 < self._stop(layer) < depth}))

    def kept(self, scene: Scene) -> int:
        return scene.visual if self.stages == "2" else floored(self.keep, scene.visual)

    def plan(self, scene: Scene) -> Plan:
        stops = self.decoder_stops(scene.depth)
        most = (self.kept(scene),) * scene.depth
        if not stops:
            return Plan(layers=most)
        exited = segments(scene.depth, [(0, self.kept(scene)), (stops[0], 0)])
        return Plan(layers=most, least=exited) if self.data_decided else Plan(layers=exited)

    def costs(self, scene: Scene) -> list[Cost]:
        found = []
        if self.stages != "2":
            width = scene.model.decoder.width
            found.append(Cost("pivot", saliency_macs(scene)))
            found.append(Cost("similarities", diversity_macs(scene.visual, self.kept(scene), width)))
        if self.data_decided and scene.text_after:
            stops, plan = self.decoder_stops(scene.depth), self.plan(scene)
            found += attention_at(stops, scene, plan, "instruction", layer="previous")
            if scene.layout.images > 1:
                found += attention_at(stops, scene, plan, "visual", layer="previous")
        return found

    def edit_image(self, view: ImageView) -> Edit | None:
        if self.stages == "2":
            return None
        saliency = view.saliency(self.pivot_layer)
        pivot = _in_thumbnails(saliency, view).argmax(dim=1)
        count = self.kept(view.scene)
        kept = choose_diverse(view.tokens, pivot, count, "k-center" if self.variant == "v1" else "max-sum")
        return Edit(kept, pivot=pivot)

    def edit_decoder(self, view: DecoderView) -> Edit | None:
        if self.exit_layer is not None:
            return Edit.drop_all()
        if not view.scene.text_after:
            return None  # nobody asks, so nobody can be done with looking
        looked = view.attention("instruction", layer="previous").sum(dim=1)
        quiet = looked < self.tau
        if view.scene.layout.images > 1:
            quiet &= view.attention("visual", layer="previous", columns="instruction").sum(dim=1) < self.tau
        return Edit.drop_all() if bool(quiet.all()) else None


def _in_thumbnails(saliency: Tensor, view: ImageView) -> Tensor:
    """Saliency with everything but the thumbnails out of the question, where there are thumbnails."""
    layout = view.scene.layout
    if not any(block.thumbnail for block in layout.blocks):
        return saliency
    masked, start = saliency.new_full(saliency.shape, float("-inf")), 0
    shown_newlines = view.scene.visual == layout.count
    for block in layout.blocks:
        size = block.count if shown_newlines else block.patches
        if block.thumbnail:
            masked[:, start : start + size] = saliency[:, start : start + size]
        start += size
    return masked
