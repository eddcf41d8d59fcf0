"""VisionDrop: pictures judge themselves, in the vision tower and at three stops of the decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokprof.errors import ParameterError
from tokprof.policies.attention_costs import attention_at
from tokprof.policies.base import (
    Cost,
    DecoderView,
    Edit,
    ImageView,
    Need,
    Newlines,
    Plan,
    Positions,
    Scene,
    segments,
    top_indices,
)
from tokprof.policies.key_merging import Variant, merge_leftovers, merging_macs
from tokprof.policies.merged_tokens import kept_then_merged, left_out
from tokprof.policies.stages import Staged, bisect, layer_share
from tokprof.policies.visionzip import VisionZip

IMAGE_FIRST, VIDEO_FIRST = 1.5, 3.0
CONTEXTUAL = 0.147
RELEASED_FIRST = (48, 6 / 48)  # the released split for 32 tokens has 42 + 6 in the first stage


@dataclass(frozen=True, kw_only=True)
class VisionDrop(Staged):
    """Dominant tokens by visual-to-visual attention and merged contextual ones, at four stages (section 3.3).

    Stage 1 is VisionZip's: class attention in the tower, the class token itself handed over, the
    others merged by key similarity, tile by tile. Stages 2–4, at stops 8, 16 and 24 of 32: S_j = mean
    over heads and over all visual query rows of the attention token j receives in the layer about to
    run; the rest merges by the cosine of that layer's rotated keys and is appended.

    `keep`: R, layer mean as a share. The tower hands over 1.5·R (3·R on video; `first` overrides), and
    a constant ratio per stage makes the mean R: 48, 35, 26, 19 for 32 tokens, as released.
    `contextual`: share of merged tokens at each stage; 0.147 gives the released 5, 4 and 3 (and 6 of
    the first 48 by preset); splits of other budgets are unpublished. Rotary ids are renumbered.

    Traps: causality gives early tokens more rows that see them, as in paper and code. A merged token
    is target *plus* mean (`variant="official"`, default); the paper says average (`"paper"`).
    Keys are compared after rotation and normalised, which the paper does not mention.
    """

    name: ClassVar[str] = "visiondrop"
    paper: ClassVar[str] = (
        "Rethinking Visual Token Reduction in LVLMs Under Cross-Modal Misalignment, AAAI 2026, arXiv 2506.22283v1"
    )
    acts: ClassVar[str] = "before the projector, and decoder, three cuts with merging"
    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.SALIENCY, Need.PATCH_KEYS, Need.COLUMN_ATTENTION, Need.DECODER_KEYS}
    )
    optional: ClassVar[frozenset[Need]] = frozenset({Need.CLS_FEATURE})
    before_projector: ClassVar[bool] = True
    published_layers: ClassVar[tuple[int, ...]] = (8, 16, 24)

    keep: float = 64 / 576
    newlines: Newlines = "drop"
    first: float | None = None
    contextual: float = CONTEXTUAL
    variant: Variant = "official"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("newlines", ("keep", "drop"))
        self.check_choice("variant", ("official", "paper"))
        self.check_share("contextual", zero=True)
        if self.first is not None and not self.first >= 1:
            raise ParameterError(f"visiondrop: first={self.first!r}", "a factor from 1 on, such as 1.5")

    @property
    def positions(self) -> Positions:
        return "compacted"

    def reachable(self, depth: int) -> tuple[float, float]:
        return 0.0, 1.0

    def _first(self, scene: Scene) -> float:
        """Share of the tokens that the first stage hands over."""
        video = len({block.frame for block in scene.layout.blocks}) > 1
        factor = self.first or (VIDEO_FIRST if video else IMAGE_FIRST)
        return min(factor * self.keep, 1.0)

    def encoder(self, scene: Scene) -> VisionZip:
        """The first stage."""
        share, (count, released) = self._first(scene), RELEASED_FIRST
        preset = self.contextual == CONTEXTUAL and round(share * scene.visual) == count
        contextual = released if preset else self.contextual
        return VisionZip(keep=share, contextual=contextual, newlines=self.newlines, variant=self.variant)

    def stage_counts(self, scene: Scene) -> tuple[int, ...]:
        """Tokens left at each stop: c·R·ρⁱ."""
        stops, share = self.stops(scene.depth), self._first(scene)

        def shares(ratio: float) -> list[float]:
            return [ratio**stage for stage in range(1, len(stops) + 1)]

        ratio = bisect(lambda tried: share * layer_share(scene.depth, stops, shares(tried)), self.keep)
        return tuple(max(1, round(share * scene.visual * part)) for part in shares(ratio))

    def plan(self, scene: Scene) -> Plan:
        before = self.encoder(scene).plan(scene)
        entering, steps, least = before.layers[0], [], before.layers[0]
        for stop, count in zip(self.stops(scene.depth), self.stage_counts(scene), strict=True):
            least = min(least, count)
            steps.append((stop, least))
        return Plan(layers=segments(scene.depth, [(0, entering), *steps]), projected=before.projected)

    def edit_image(self, view: ImageView) -> Edit:
        return self.encoder(view.scene).edit_image(view)

    def _merged(self, count: int) -> int:
        return min(max(1, int(self.contextual * count + 0.5)), count - 1) if self.contextual else 0

    def edit_decoder(self, view: DecoderView) -> Edit | None:
        scene, present = view.scene, view.tokens.shape[1]
        count = self.stage_counts(scene)[self.stops(scene.depth).index(view.stop)]
        if count >= present:
            return None
        merged = self._merged(count)
        dominant = top_indices(view.attention("visual", layer="next"), count - merged)
        if not merged:
            return Edit(dominant)
        rest = left_out(present, dominant)
        targets, contents = merge_leftovers(view.tokens, view.keys("next"), rest, merged, self.variant)
        return kept_then_merged(view, dominant, targets, contents)

    def costs(self, scene: Scene) -> list[Cost]:
        plan, decoder, stops = self.plan(scene), scene.model.decoder, self.stops(scene.depth)
        cuts = [stop for stop in stops if plan.layers[stop] < plan.layers[stop - 1]]
        found = self.encoder(scene).costs(scene) + attention_at(cuts, scene, plan, "visual", layer="next")
        for stop in cuts:
            merged = self._merged(plan.layers[stop])
            rest = plan.layers[stop - 1] - plan.layers[stop] + merged
            found.append(Cost(f"merging at layer {stop}", merging_macs(rest, merged, decoder.width, decoder.head_dim)))
        return found
