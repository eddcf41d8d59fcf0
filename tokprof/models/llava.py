"""LLaVA-1.5 (arXiv 2310.03744) and LLaVA-NeXT: CLIP, a two-layer projector, a Llama-like decoder.

LLaVA-NeXT cuts a picture into a thumbnail and tiles, drops the padding that its ratio left and
puts a learned newline behind each row (`spatial_unpad`). With `--anyres fixed` the grid is always
2x2, nothing is dropped and there are no newlines: the constant 2880 tokens of the papers.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

import torch
from torch import Tensor

from tokprof.layout import FIXED_TILES
from tokprof.models.adapter import EditTower, Prepared, VisionStates
from tokprof.models.huggingface import HuggingFaceAdapter
from tokprof.models.tower import Tower
from tokprof.shapes import VisualLayout
from tokprof.workload import Request


class Llava(HuggingFaceAdapter):
    family: ClassVar[str] = "llava"
    projects_by_token: ClassVar[bool] = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.build_towers()

    def build_towers(self) -> None:
        vision = self.shape.vision
        self.tower = Tower(self.inner.vision_tower, cls_token=vision.cls_token, layers_run=vision.layers_run)

    def tower_of(self, states: VisionStates) -> Tower:
        """The tower that left these states."""
        return self.tower

    @staticmethod
    def processor_class() -> Any:
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        return CLIPImageProcessorPil

    def processor_options(self) -> dict[str, Any]:
        side = self.shape.vision.image_px
        return {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}

    def pixels(self, request: Request) -> dict[str, Tensor]:
        return {"pixel_values": self.processor(images=request.pictures, return_tensors="pt")["pixel_values"]}

    def places(self, layout: VisualLayout) -> dict[str, Tensor]:
        """`source`: the patch among a sample's tiles that a token is; behind the last one for a newline."""
        places = super().places(layout)
        patches = self.shape.vision.patches
        source = places["tile"] * patches + places["patch"]
        places["source"] = torch.where(places["tile"] < 0, layout.tower_passes * patches, source)
        return places

    def tiles(self, prepared: Prepared) -> Tensor:
        """What the tower sees, (tiles of all samples, 3, side, side)."""
        return prepared.tensors["pixel_values"]

    def encode(
        self,
        prepared: Prepared,
        watch: Collection[int] = (),
        stops: Collection[int] = (),
        edit: EditTower | None = None,
    ) -> VisionStates:
        return self.tower.run(self.tiles(prepared), watch, stops, edit)

    def project(self, features: Tensor) -> Tensor:
        projected: Tensor = self.inner.multi_modal_projector(features)
        return projected

    def embed_visual(self, states: VisionStates, prepared: Prepared) -> Tensor:
        if states.merged:
            return self.merged_tokens(states, prepared)
        projected = self.by_sample(self.project(states.features), prepared)
        if prepared.layout.newlines:
            newline = self.newline().to(projected.dtype).expand(prepared.batch, 1, -1)
            projected = torch.cat((projected, newline), dim=1)
        return projected.index_select(1, prepared.places["source"])

    def spread(self, per_patch: Tensor, prepared: Prepared) -> Tensor:
        return self.by_sample(per_patch, prepared).index_select(1, prepared.places["source"][prepared.candidates])

    def cls_attention(self, states: VisionStates, layer: int, *, logits: bool) -> Tensor:
        return self.tower_of(states).cls_attention(states, layer, logits=logits)

    def received_attention(self, states: VisionStates, layer: int) -> Tensor:
        return self.tower_of(states).received_attention(states, layer)

    def whole_attention(self, states: VisionStates, layer: int) -> Tensor | None:
        return self.tower_of(states).whole_attention(states, layer)

    def patch_keys(self, states: VisionStates, layer: int) -> Tensor:
        return self.tower_of(states).patch_keys(states, layer)


class LlavaNext(Llava):
    family: ClassVar[str] = "llava_next"

    @staticmethod
    def processor_class() -> Any:
        from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

        return LlavaNextImageProcessorPil

    def processor_options(self) -> dict[str, Any]:
        grids = [list(grid) for grid in self.shape.grids_px]
        return {**super().processor_options(), "image_grid_pinpoints": grids}

    def pixels(self, request: Request) -> dict[str, Tensor]:
        options: dict[str, Any] = {}
        if not request.layout.newlines:  # the fixed grid
            options["image_grid_pinpoints"] = [[FIXED_TILES * self.shape.vision.image_px] * 2]
        batch = self.processor(images=request.pictures, return_tensors="pt", **options)
        return {"pixel_values": batch["pixel_values"], "image_sizes": batch["image_sizes"]}

    def tiles(self, prepared: Prepared) -> Tensor:
        """Pictures with fewer tiles than others are padded with empty ones, which are left out here."""
        pixels = prepared.tensors["pixel_values"]  # (samples × pictures, most tiles, 3, side, side)
        counts = tile_counts(prepared.layout)
        if len(set(counts)) == 1:
            return pixels.flatten(0, 1)
        return torch.cat([picture[:count] for picture, count in zip(pixels, prepared.batch * counts, strict=True)])

    def newline(self) -> Tensor:
        newline: Tensor = self.inner.image_newline
        return newline

    def foreign_to_forward(self, prepared: Prepared) -> bool:
        return not prepared.layout.newlines


def tile_counts(layout: VisualLayout) -> list[int]:
    """Tower passes of each picture."""
    counts = [0] * layout.images
    for block in layout.blocks:
        counts[block.image] += block.tiles
    return counts
