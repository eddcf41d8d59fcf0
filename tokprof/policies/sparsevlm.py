"""SparseVLM: text tokens that concern the picture rate its tokens; what is dropped is partly recycled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tokprof.errors import ParameterError
from tokprof.policies.attention_costs import attention_at
from tokprof.policies.base import Cost, DecoderView, Edit, Need, Positions, Scene, top_indices
from tokprof.policies.density_peaks import cluster_means, clustering_macs, density_peaks
from tokprof.policies.merged_tokens import kept_then_merged, left_out
from tokprof.policies.stages import Staged, bisect, integers, layer_share

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED_TOKENS = 576
# the paper's budget → tokens kept at its three layers, in v1.5 before recycling (96: main branch)
PUBLISHED = {
    "v1.5": {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)},
    "+": {192: (300, 200, 118), 128: (238, 108, 60), 96: (246, 54, 28), 64: (66, 34, 20)},
}
PRESET_WIDTH = 0.001
RECYCLED = 0.3  # of the dropped tokens, the best rated
CLUSTER = 10  # of them to one new token
PLUS_HEADS = 14  # half of Qwen's heads, but as coded for every model


@dataclass(frozen=True, kw_only=True)
class SparseVLM(Staged):
    """Prune the outputs of layers 2, 6 and 15 of 32 (stops 3, 7, 16) by the attention of text raters.

    Raters (section 3.2): r = mean over visual tokens of softmax(E_v·E_tᵀ); the text tokens above the
    mean of r, chosen once on the embeddings. Score: the layer's attention probabilities, mean over
    heads and raters. Of the dropped tokens the best 30 % are clustered by density peaks, ten to a
    cluster, and each cluster's plain mean is appended behind the kept tokens. Ids are renumbered.

    `keep`: layer mean, as a share. 192, 128, 96 and 64 of 576 on 32 layers are the code's lists of
    kept tokens, scaled to other token counts; any other value is *derived*: ρ, ρ², ρ³ solved for the
    mean. Trap: the paper counts a layer's tokens *after* it pruned, so its "192" really enters
    layers as 206.5 (`published_mean` gives its count). `tokens`: kept per stop, instead. Traps in the
    code: half-precision softmax and random noise in the densities; here fp32, and ties by index.
    The rank rule of the paper exists in its first release only and is not offered.
    `variant="+"`: the second version's mode. Probabilities are divided by what rotated vectors of
    ones would score at that distance, only the 14 heads with the most mass on visual tokens count,
    nothing is recycled, and ids persist.
    """

    name: ClassVar[str] = "sparsevlm"
    paper: ClassVar[str] = (
        "SparseVLM: Visual Token Sparsification for Efficient VLM Inference, ICML 2025, arXiv 2410.04417"
    )
    acts: ClassVar[str] = "decoder, three cuts with merging"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.ROW_ATTENTION, Need.PROMPT_EMBEDDINGS})
    published_layers: ClassVar[tuple[int, ...]] = (3, 7, 16)

    keep: float = 192 / PUBLISHED_TOKENS
    tokens: tuple[int, ...] = ()
    variant: Literal["v1.5", "+"] = "v1.5"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("variant", tuple(PUBLISHED))
        object.__setattr__(self, "tokens", integers(self.tokens, self.name, "tokens"))

    @property
    def explicit(self) -> bool:
        return bool(self.tokens)

    def check(self, scene: Scene) -> None:
        super().check(scene)
        stops = self.stops(scene.depth)
        if self.tokens and len(self.tokens) != len(stops):
            raise ParameterError(f"sparsevlm: {len(self.tokens)} tokens for {len(stops)} layers", "one count per layer")

    @property
    def positions(self) -> Positions:
        return "persistent" if self.variant == "+" else "compacted"

    def decoder_stops(self, depth: int) -> tuple[int, ...]:
        return (0, *self.stops(depth))

    def kept(self, visual: int, depth: int) -> tuple[int, ...]:
        """Tokens kept at each stop, before recycling."""
        wanted = self.tokens or self._published(visual, depth) or self._derived(visual, depth)
        kept, present = [], visual
        for count in wanted:
            kept.append(max(1, min(count, present - 1)))
            present = self._left(present, kept[-1])
        return tuple(kept)

    def _left(self, present: int, kept: int) -> int:
        """Kept and recycled tokens."""
        return kept if self.variant == "+" else kept + clusters(present - kept)

    def _published(self, visual: int, depth: int) -> tuple[int, ...]:
        for budget, counts in PUBLISHED[self.variant].items():
            near = abs(self.keep - budget / PUBLISHED_TOKENS) <= PRESET_WIDTH
            if near and depth == self.published_depth and not self.layers:
                return tuple(round(count * visual / PUBLISHED_TOKENS) for count in counts)
        return ()

    def _derived(self, visual: int, depth: int) -> tuple[int, ...]:
        ratio = bisect(lambda tried: self._share(depth, tried), self.keep)
        return tuple(round(visual * ratio**stage) for stage in range(1, len(self.stops(depth)) + 1))

    def _share(self, depth: int, ratio: float) -> float:
        """Layer mean with ratio, ratio², … kept, and one new token for ten recycled ones."""
        shares, present = [], 1.0
        for stage in range(1, len(self.stops(depth)) + 1):
            kept = min(ratio**stage, present)
            present = kept + (0 if self.variant == "+" else (present - kept) * RECYCLED / CLUSTER)
            shares.append(present)
        return layer_share(depth, self.stops(depth), shares)

    def reachable(self, depth: int) -> tuple[float, float]:
        return self._share(depth, 0.0), 1.0

    def counts(self, visual: int, depth: int) -> tuple[int, ...]:
        counts, present = [], visual
        for kept in self.kept(visual, depth):
            present = self._left(present, kept)
            counts.append(present)
        return tuple(counts)

    def published_mean(self, scene: Scene) -> float:
        """Layer mean as the paper has it: the tokens that leave each layer instead of those entering it."""
        layers = self.schedule(scene).layers
        return sum((*layers[1:], layers[-1])) / len(layers)

    def edit_decoder(self, view: DecoderView) -> Edit | None:
        if view.stop == 0:
            view.memory["raters"] = raters(view.tokens, view.prompt)
            return None
        scene, present = view.scene, view.tokens.shape[1]
        kept_count = self.kept(scene.visual, scene.depth)[self.stops(scene.depth).index(view.stop)]
        if kept_count == present:
            return None
        scores = self._scores(view)
        kept = top_indices(scores, kept_count)
        return Edit(kept) if self.variant == "+" else self._recycle(view, kept, scores)

    def _scores(self, view: DecoderView) -> Tensor:
        weights = view.memory["raters"]
        if self.variant == "v1.5":
            return view.attention("instruction", layer="previous", weights=weights)
        corrected = weights[..., None] / view.decay("instruction")
        by_head = view.attention("instruction", layer="previous", weights=corrected, mean_heads=False)
        heads = top_indices(by_head.sum(dim=-1), PLUS_HEADS)
        return by_head.gather(1, heads[..., None].expand(-1, -1, by_head.shape[-1])).mean(dim=1)

    def _recycle(self, view: DecoderView, kept: Tensor, scores: Tensor) -> Edit:
        dropped = left_out(view.tokens.shape[1], kept)
        best = top_indices(scores.gather(1, dropped), recycled(dropped.shape[1]))
        best = dropped.gather(1, best)
        points = view.tokens.gather(1, best[..., None].expand(-1, -1, view.tokens.shape[-1]))
        count = clusters(dropped.shape[1])
        centres, cluster = density_peaks(points, count)
        return kept_then_merged(view, kept, best.gather(1, centres), cluster_means(points, cluster, count))

    def costs(self, scene: Scene) -> list[Cost]:
        plan, width = self.plan(scene), scene.model.decoder.width
        choosing = Cost("text raters", scene.visual * scene.text_after * width)
        looking = attention_at(self.stops(scene.depth), scene, plan, "instruction", layer="previous")
        present = [plan.layers[stop - 1] for stop in self.stops(scene.depth)]
        dropped = [before - kept for before, kept in zip(present, self.kept(scene.visual, scene.depth), strict=True)]
        if self.variant == "+":
            macs = [count * scene.text_after * scene.model.decoder.head_dim for count in present]
            return [choosing, *looking, *(Cost("decay with distance", count) for count in macs)]
        merging = [Cost("clusters", clustering_macs(recycled(count), clusters(count), width)) for count in dropped]
        return [choosing, *looking, *merging]


def recycled(dropped: int) -> int:
    return int(RECYCLED * dropped) + 1 if dropped else 0


def clusters(dropped: int) -> int:
    return recycled(dropped) // CLUSTER + 1 if dropped else 0


def raters(visual: Tensor, text: Tensor) -> Tensor:
    """Weights (batch, text) of the query rows: equal for text tokens above the mean relevance, else zero."""
    relevance = (visual.float() @ text.float().transpose(1, 2)).softmax(dim=-1).mean(dim=1)
    chosen = relevance > relevance.mean(dim=-1, keepdim=True)
    chosen = chosen | ~chosen.any(dim=-1, keepdim=True)  # all alike: everyone rates
    return chosen.float() / chosen.sum(dim=-1, keepdim=True)
