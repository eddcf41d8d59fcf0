"""LLaVA-OneVision (arXiv 2408.03326): SigLIP without a class token, a two-layer projector, Qwen2.

A single picture is cut into a thumbnail and tiles (`anyres_max_9`: a grid of more than nine tiles'
worth of tokens is interpolated down); several pictures get one tile each; every frame of a video
is pooled to 14x14 tokens, and one newline closes the video. Pooling follows the projector, so that
tokens are not projected one by one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from tokprof.models.adapter import Prepared, VisionStates
from tokprof.models.frames import frame_pixels
from tokprof.models.llava import LlavaNext
from tokprof.shapes import Block
from tokprof.workload import Request


class LlavaOneVision(LlavaNext):
    family: ClassVar[str] = "llava_onevision"
    projects_by_token: ClassVar[bool] = False
    video_token: ClassVar[bool] = True

    @staticmethod
    def processor_class() -> Any:
        from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
            LlavaOnevisionImageProcessorPil,
        )

        return LlavaOnevisionImageProcessorPil

    def processor_options(self) -> dict[str, Any]:
        side = self.shape.vision.image_px
        return {
            "size": {"height": side, "width": side},
            "image_grid_pinpoints": [list(grid) for grid in self.shape.grids_px],
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        }

    def pixels(self, request: Request) -> dict[str, Tensor]:
        if not request.video:
            return self._picture_pixels(request)
        side = self.shape.vision.image_px
        frames = frame_pixels(request.pictures, (side, side), self.processor)
        return {"pixel_values_videos": frames.view(len(request.samples), -1, *frames.shape[1:])}

    def _picture_pixels(self, request: Request) -> dict[str, Tensor]:
        if not request.layout.newlines or len(request.samples[0]) == 1:  # every picture for itself
            return super().pixels(request)
        batch = self.processor(images=[list(sample) for sample in request.samples], return_tensors="pt")
        return {name: batch[name] for name in ("pixel_values", "image_sizes", "batch_num_images")}

    def tiles(self, prepared: Prepared) -> Tensor:
        videos = prepared.tensors.get("pixel_values_videos")
        return super().tiles(prepared) if videos is None else videos.flatten(0, 1)

    def embed_visual(self, states: VisionStates, prepared: Prepared) -> Tensor:
        if states.merged:
            return self.merged_tokens(states, prepared)
        projected = self.project(states.features)
        newline = self.newline().to(projected.dtype)
        parts = self._laid(projected, prepared)
        return torch.cat([_with_newlines(part, block, newline) for part, block in parts], dim=1)

    def spread(self, per_patch: Tensor, prepared: Prepared) -> Tensor:
        parts = self._laid(per_patch.flatten(2) if per_patch.dim() > 2 else per_patch[..., None], prepared)
        laid = torch.cat([part for part, _ in parts], dim=1)
        return laid.view(*laid.shape[:2], *per_patch.shape[2:])

    def _laid(self, per_patch: Tensor, prepared: Prepared) -> list[tuple[Tensor, Block]]:
        """(tiles of all samples, patches, channels) → each block's tokens, (batch, tokens, channels)."""
        blocks = prepared.layout.blocks
        batch, patches = prepared.batch, per_patch.shape[1]
        if len(blocks) == prepared.layout.tower_passes and blocks[0].resampled:  # frames: all alike, at once
            pooled = _stitched(per_patch, blocks[0])
            return [(pooled.reshape(batch, -1, pooled.shape[-1]), blocks[-1])]
        per_sample = per_patch.reshape(batch, -1, patches, per_patch.shape[-1])
        parts, first = [], 0
        for block in blocks:
            tiles = per_sample[:, first : first + block.tiles].flatten(1, 2)
            parts.append((_stitched(tiles, block), block))
            first += block.tiles
        return parts


def _stitched(tiles: Tensor, block: Block) -> Tensor:
    """(batch, tiles × patches, channels) → (batch, rows × cols, channels): unpadded, interpolated if need be."""
    if block.tiles == 1 and not (block.resampled or block.top or block.left):
        return tiles
    side, rows, cols = block.side, block.tile_rows, block.tile_cols
    grid = tiles.view(tiles.shape[0], rows, cols, side, side, -1).permute(0, 5, 1, 3, 2, 4)
    grid = grid.reshape(tiles.shape[0], -1, rows * side, cols * side)
    grid = grid[:, :, block.top : rows * side - block.top, block.left : cols * side - block.left]
    if block.resampled:
        grid = functional.interpolate(grid, (block.rows, block.cols), mode="bilinear")
    return grid.flatten(2).transpose(1, 2)


def _with_newlines(tokens: Tensor, block: Block, newline: Tensor) -> Tensor:
    batch, _, width = tokens.shape
    if block.newline == "row":
        rows = tokens.view(batch, block.rows, block.cols, width)
        return torch.cat((rows, newline.expand(batch, block.rows, 1, width)), dim=2).flatten(1, 2)
    if block.newline == "end":
        return torch.cat((tokens, newline.expand(batch, 1, width)), dim=1)
    return tokens
