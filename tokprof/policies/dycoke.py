"""DyCoke: drop what a video frame repeats of an earlier one, then read a pruned cache while decoding."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, Literal

from tokprof.errors import ParameterError, UnsupportedError
from tokprof.policies.base import CacheView, Edit, ImageView, Need, Plan, Policy, Scene, segments, top_indices
from tokprof.policies.shares import floored
from tokprof.policies.stages import scaled

if TYPE_CHECKING:
    from torch import Tensor

    from tokprof.shapes import VisualLayout

CHANGED = 0.9  # cosine between two steps' attention below which the cache is chosen anew
DEFAULT_PRUNE = 0.7


@dataclass(frozen=True, kw_only=True)
class DyCoke(Policy):
    """Temporal merging before the decoder (section 3.2), and pruning of visual KV in each decode step (3.3).

    Frame 1 of each pair against frame 0, then frame 2 of each group of four against frame 0: the
    int((1 − K)·P) tokens *least* like the token at the same place (cosine) stay. "Merging" is
    dropping. Then, at each decode step, from layer 3 of 28 on, only the int((1 − p)·n) visual entries
    with the most attention of the layer before (mean over heads) are read, chosen anew when that
    attention's cosine with the last step's falls below 0.9.

    `keep`: share of visual tokens entering the decoder, K solved for it; `merging`: K itself (0.7
    published: 3098 of 6272 tokens at 32 frames); `prune`: p, 0.7 published, 0 for none. On a single
    picture only the decode part acts.
    `temporal="official"` (default, for the published counts) does not compress the last group of
    four, loses an odd last frame, and leaves kept tokens in ascending similarity; "paper" covers
    every group, loses nothing and keeps raster order. `reuse="paper"` (default) reads the last choice
    while attention stays alike; "official" then reads everything, as the code does, and has to wait
    for the device. The whole cache stays in memory either way.
    """

    name: ClassVar[str] = "dycoke"
    paper: ClassVar[str] = "DyCoke: Dynamic Compression of Tokens for Fast Video LLMs, CVPR 2025, arXiv 2411.15024"
    acts: ClassVar[str] = "before the decoder on video, and its cache while decoding"
    optional: ClassVar[frozenset[Need]] = frozenset({Need.FRAMES, Need.DECODE_ATTENTION})

    keep: float = 0.494
    merging: float | None = None
    prune: float | None = None
    layer: int | None = None
    temporal: Literal["official", "paper"] = "official"
    reuse: Literal["paper", "official"] = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("newlines", ("keep", "drop"))
        self.check_choice("temporal", ("official", "paper"))
        self.check_choice("reuse", ("paper", "official"))
        for name in ("merging", "prune"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ParameterError(f"dycoke: {name}={value!r}", "a share from 0 to below 1, such as 0.7")
        object.__setattr__(self, "data_decided", self.reuse == "official")

    @property
    def identity(self) -> bool:
        return self.keep >= 1.0 and self.merging is None and self.prune is None

    def check(self, scene: Scene) -> None:
        if self.layer is not None and not 0 < self.layer < scene.depth:
            raise ParameterError(f"dycoke: layer={self.layer!r}", f"a layer from 1 to {scene.depth - 1}")
        frames = references(scene.layout, self.temporal)
        if frames is None:
            return
        sizes = {block.patches for block in scene.layout.blocks}
        if len(sizes) > 1:
            raise UnsupportedError("dycoke compares places in frames, and these frames differ in size", "use one video")
        low = sum(reference is None for reference in frames.values()) / len(scene.layout.blocks)
        if self.merging is None and not low <= self.keep + 1e-9:
            raise ParameterError(
                f"dycoke: keep={self.keep:g} is out of reach: the frames left whole hold {low:.3g} of all tokens",
                f"a share above {low:.3g}",
            )

    def kept_per_frame(self, layout: VisualLayout) -> int:
        """Tokens left of a compressed frame."""
        frames, size = references(layout, self.temporal) or {}, layout.blocks[0].patches
        if self.merging is not None:
            return floored(1 - self.merging, size)
        whole = sum(reference is None for reference in frames.values())
        share = (self.keep * layout.patches - whole * size) / max(1, len(frames) - whole)
        return min(max(1, round(share)), size)

    def plan(self, scene: Scene) -> Plan:
        frames, first, total = references(scene.layout, self.temporal), self.cache_layer(scene.depth), scene.visual
        if frames is not None:
            size, kept = scene.layout.blocks[0].patches, self.kept_per_frame(scene.layout)
            total = sum(size if reference is None else kept for reference in frames.values())
        layers = (total,) * scene.depth
        if first is None:
            return Plan(layers=layers)
        return Plan(layers=layers, read=segments(scene.depth, [(0, total), (first, floored(1 - self._prune, total))]))

    def edit_image(self, view: ImageView) -> Edit | None:
        import torch
        from torch.nn.functional import cosine_similarity

        layout = view.scene.layout
        frames = references(layout, self.temporal)
        if frames is None:
            return None
        size, kept = layout.blocks[0].patches, self.kept_per_frame(layout)
        batch, _, width = view.tokens.shape
        by_frame = view.tokens.float().reshape(batch, -1, size, width).unbind(dim=1)
        pairs = {frame: earlier for frame, earlier in frames.items() if earlier is not None}
        later, before = (torch.stack([by_frame[at] for at in side], dim=1) for side in (pairs, pairs.values()))
        alike = cosine_similarity(later, before, dim=-1)  # (batch, pairs, size)
        least = alike.sort(dim=-1, stable=True).indices[..., :kept]
        if self.temporal == "paper":
            least = least.sort(dim=-1).values
        place = torch.arange(size, device=view.tokens.device).expand(batch, -1)
        chosen = dict(zip(pairs, least.unbind(dim=1), strict=True))
        keep = torch.cat([frame * size + chosen.get(frame, place) for frame in frames], dim=1)
        return Edit(keep, reordered=self.temporal == "official")

    @property
    def _prune(self) -> float:
        return DEFAULT_PRUNE if self.prune is None else self.prune

    def cache_layer(self, depth: int) -> int | None:
        if not self._prune:
            return None
        return scaled((3,), 28, depth)[0] if self.layer is None else self.layer

    def edit_cache(self, view: CacheView) -> Tensor | None:
        import torch
        from torch.nn.functional import cosine_similarity

        attention, before = view.attention().float(), view.memory.get("attention")
        view.memory["attention"] = attention
        chosen = top_indices(attention, floored(1 - self._prune, view.visual))
        if before is not None:
            changed = cosine_similarity(attention, before, dim=-1) < CHANGED
            if self.reuse == "official":
                return chosen if bool(changed.any()) else None
            chosen = torch.where(changed[:, None], chosen, view.memory["chosen"])
        view.memory["chosen"] = chosen
        return chosen


def references(layout: VisualLayout, temporal: str) -> dict[int, int | None] | None:
    """Frame that stays → the earlier frame it is compared with, None where it stays whole; None: no video."""
    if len({block.frame for block in layout.blocks}) < 2:
        return None
    found: dict[int, int | None] = {}
    for _, group in groupby(range(len(layout.blocks)), key=lambda index: layout.blocks[index].image):
        frames = list(group)
        official = temporal == "official"
        count = len(frames) - (len(frames) % 2 if official else 0)
        found.update(dict.fromkeys(frames[:count]))
        found.update({frames[at + 1]: frames[at] for at in range(0, count - 1, 2)})
        last = count - 4 if official else count - 2
        found.update({frames[at + 2]: frames[at] for at in range(0, last, 4)})
    return found
