"""LLaVA-PruMerge: the tokens the class token looks at, each enriched by those alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tokprof.errors import UnsupportedError
from tokprof.policies.base import Cost, Edit, ImageView, Need, Newlines, Plan, Policy, Scene
from tokprof.policies.neighbours import merge_neighbours, neighbour_macs
from tokprof.policies.per_tile import groups, tile_sizes
from tokprof.policies.shares import rounded
from tokprof.policies.tower_costs import key_macs, projects_by_token, saliency_macs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PruMerge(Policy):
    """Outstanding tokens of each tile, merged with their neighbours, and one token for all the others.

    `keep`: the share k/N of each tile's visual tokens, rounded (the paper's mean: 32 of 576); one token
    more enters the decoder. `adaptive`: k is instead the number of tokens whose attention lies above
    Q3 + 1.5·IQR, so data decides (at most N/4; one sample at a time). Comparisons at fixed
    budgets use it off, as is the default.
    Attention is the class token's in the tower's last block, over the heads' concatenated keys (scale
    1/√width; without a class token: attention received). A kept token becomes x + Σ a_j·x_j over its 32
    nearest by the cosine of keys, the last token Σ a_j·x_j over all dropped ones; the weights
    are not normalised, as in the code. Tokens come in falling order of attention.

    Code: 42Shawn/LLaVA-PruMerge at 097c041.
    Traps: the code's softmax also counts the class token's own key, which makes all weights of a tile
    smaller by one factor. Several tiles are no subject of paper or code; each is treated alone.
    """

    name: ClassVar[str] = "prumerge"
    paper: ClassVar[str] = "LLaVA-PruMerge: Adaptive Token Reduction, ICCV 2025, arXiv 2403.15388"
    acts: ClassVar[str] = "before the projector"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PATCH_KEYS})
    optional: ClassVar[frozenset[Need]] = frozenset({Need.CLS_ATTENTION, Need.SALIENCY})
    before_projector: ClassVar[bool] = True

    keep: float = 1 / 18
    newlines: Newlines = "drop"
    adaptive: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("newlines", ("keep", "drop"))
        self.check_choice("adaptive", (True, False))
        object.__setattr__(self, "data_decided", self.adaptive)

    def check(self, scene: Scene) -> None:
        if self.adaptive and scene.batch > 1:
            raise UnsupportedError(
                f"{self.name} adaptive=true keeps another number of tokens in each sample", "use --batch 1"
            )

    def vision_layers(self, depth: int) -> tuple[int, ...]:
        return (depth - 1,)

    def count(self, size: int) -> int:
        """k of a tile, at a fixed budget; at least one token is left for the last one to stand for."""
        return min(rounded(self.keep, size), max(size - 1, 1))

    def most(self, size: int) -> int:
        """The largest adaptive k: above Q3 lies at most a quarter."""
        return max(1, size // 4)

    def plan(self, scene: Scene) -> Plan:
        sizes = tile_sizes(scene.layout)
        count = sum((self.most(size) if self.adaptive else self.count(size)) + 1 for size in sizes)
        least = (2 * len(sizes),) * scene.depth if self.adaptive else None
        projected = count if projects_by_token(scene) else None
        return Plan(layers=(count,) * scene.depth, least=least, projected=projected)

    def costs(self, scene: Scene) -> list[Cost]:
        vision = scene.model.vision
        width = vision.width if projects_by_token(scene) else scene.model.decoder.width
        merging = 0
        for size in tile_sizes(scene.layout):
            kept = self.most(size) if self.adaptive else self.count(size)
            merging += neighbour_macs(size, kept, width, vision.width)
        return [
            Cost("attention in the tower", saliency_macs(scene)),
            Cost("keys", key_macs(scene)),
            Cost("neighbours and merging", merging),
        ]

    def edit_image(self, view: ImageView) -> Edit:
        import torch

        last = view.scene.model.vision.depth - 1
        keys, kept, values, extra = view.patch_keys(last).float(), [], [], []
        attention = self._attention(view, last)
        for group in groups(view.tile, view.scene.layout):
            rows = group.places.split(1) if self.adaptive else (group.places,)  # type: ignore[no-untyped-call]
            for places in rows:
                own = attention[:, :, places].permute(0, 2, 1, 3).flatten(0, 1)  # (batch × tiles, heads, size)
                weights = own.sum(dim=1).softmax(dim=-1) if view.scene.model.vision.cls_token else own[:, 0]
                chosen = self.choose(weights)
                tokens = view.tokens[:, places].flatten(0, 1).float()
                content, rest = merge_neighbours(tokens, keys[:, places].flatten(0, 1), weights, chosen)
                tiles = places.shape[0]
                kept.append(places.expand(view.tokens.shape[0], -1, -1).gather(2, _by_sample(chosen, tiles)).flatten(1))
                values.append(_by_sample(content, tiles).flatten(1, 2))
                extra.append(_by_sample(rest, tiles))
        dtype = view.tokens.dtype
        return Edit(
            torch.cat(kept, dim=1),
            values=torch.cat(values, dim=1).to(dtype),
            extra=torch.cat(extra, dim=1).to(dtype),
            reordered=True,
        )

    def _attention(self, view: ImageView, layer: int) -> Tensor:
        """(batch, heads, present): addends of the single head's scores, or the attention received."""
        vision = view.scene.model.vision
        if not vision.cls_token:
            return view.saliency(layer)[:, None].float()
        return view.cls_attention(layer, logits=True).float() / math.sqrt(vision.heads)

    def choose(self, weights: Tensor) -> Tensor:
        """(rows, size) → indices of the tokens to keep, best first."""
        count = outliers(weights) if self.adaptive else self.count(weights.shape[1])
        return weights.sort(dim=-1, descending=True, stable=True).indices[:, :count]


def outliers(weights: Tensor) -> int:
    """How many values of a single row lie above Q3 + 1.5·IQR; at least one. Waits for the device."""
    lower, upper = weights.quantile(weights.new_tensor([0.25, 0.75]))
    return max(1, int((weights > upper + 1.5 * (upper - lower)).sum()))


def _by_sample(rows: Tensor, tiles: int) -> Tensor:
    """(batch × tiles, …) → (batch, tiles, …)"""
    return rows.reshape(-1, tiles, *rows.shape[1:])
