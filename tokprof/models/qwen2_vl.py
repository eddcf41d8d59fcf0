"""Qwen2-VL (arXiv 2409.12191) and Qwen2.5-VL (arXiv 2502.13923): a tower at the picture's own size.

2x2 patches are merged into one token by the projector, so that nothing is projected patch by patch;
numbers per patch (attention, keys) are averaged over the four. All patches of a sample lie in one
row: `VisionStates.features` is (batch, patches, width), in Qwen2.5-VL's window order.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Any, ClassVar

import torch
from torch import Tensor

from tokprof.layout import native_size
from tokprof.models.adapter import EditTower, Prepared, VisionStates
from tokprof.models.frames import frame_pixels
from tokprof.models.huggingface import HuggingFaceAdapter
from tokprof.models.native import patch_places, rotary_ids, segments, windows
from tokprof.models.tower import mean_received
from tokprof.shapes import VisualLayout
from tokprof.workload import Request


class Qwen2VL(HuggingFaceAdapter):
    family: ClassVar[str] = "qwen2_vl"
    projects_by_token: ClassVar[bool] = False
    video_token: ClassVar[bool] = True

    @staticmethod
    def processor_class() -> Any:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        return Qwen2VLImageProcessorPil

    def processor_options(self) -> dict[str, Any]:
        vision = self.shape.vision
        return {
            "patch_size": vision.patch_px,
            "temporal_patch_size": vision.temporal_patch,
            "merge_size": vision.merge_side,
        }

    @property
    def tower(self) -> Any:
        return self.inner.visual

    @property
    def seconds_step(self) -> int:
        """How far apart in time two steps of a video are: Qwen2-VL counts steps."""
        return 1

    def pixels(self, request: Request) -> dict[str, Tensor]:
        if request.video:
            patches, grids = zip(*(self._video_patches(sample, request) for sample in request.samples), strict=True)
            return {"pixel_values_videos": torch.cat(patches), "video_grid_thw": torch.tensor(grids)}
        limits = {"shortest_edge": self.shape.min_pixels, "longest_edge": self.shape.max_pixels}
        batch = self.processor(images=request.pictures, size=limits, return_tensors="pt")
        return {"pixel_values": batch["pixel_values"], "image_grid_thw": batch["image_grid_thw"]}

    def _video_patches(self, sample: Sequence[Any], request: Request) -> tuple[Tensor, list[int]]:
        """One video's patches, grouped as they merge, two frames to a step; the last frame fills up."""
        vision = self.shape.vision
        size = native_size(self.shape, request.sizes[0], video=True)
        frames = frame_pixels(sample, size, self.processor)
        missing = -len(frames) % vision.temporal_patch
        frames = torch.cat((frames, frames[-1:].expand(missing, -1, -1, -1)))
        steps, patch, merge = len(frames) // vision.temporal_patch, vision.patch_px, vision.merge_side
        rows, cols = frames.shape[2] // patch, frames.shape[3] // patch
        grid = frames.view(
            steps, vision.temporal_patch, 3, rows // merge, merge, patch, cols // merge, merge, patch
        ).permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
        return grid.reshape(steps * rows * cols, -1), [steps, rows, cols]

    def with_markers(self, ids: list[int], request: Request) -> list[int]:
        placeholder = self.placeholder(request.video)
        first, total = ids.index(placeholder), request.layout.count
        before, after = ids[: first - 1], ids[first + total + 2 * request.visuals - 1 :]
        visuals = [
            token
            for count in request.layout.image_counts
            for token in (self.config.vision_start_token_id, *(count * [placeholder]), self.config.vision_end_token_id)
        ]
        return [*before, *visuals, *after]

    def positions(self, ids: list[int], request: Request) -> tuple[Tensor, int]:
        step = self.seconds_step if request.video else 1
        axes, after_last = rotary_ids(ids, self.placeholder(request.video), request.layout, step)
        return torch.tensor(axes), after_last

    def places(self, layout: VisualLayout) -> dict[str, Tensor]:
        """`patch_row`, `patch_col`: where each patch of a sample lies, in the tower's order."""
        rows, cols = patch_places(layout, self.shape.vision.merge_side)
        return {**super().places(layout), "patch_row": torch.tensor(rows), "patch_col": torch.tensor(cols)}

    def forward_inputs(self, prepared: Prepared) -> dict[str, Any]:
        kind = 2 if prepared.frames else 1
        types = (prepared.input_ids == self.placeholder(bool(prepared.frames))).int() * kind
        return {**super().forward_inputs(prepared), "mm_token_type_ids": types}

    def encode(
        self,
        prepared: Prepared,
        watch: Collection[int] = (),
        stops: Collection[int] = (),
        edit: EditTower | None = None,
    ) -> VisionStates:
        assert not stops, "offered_needs says that nothing merges inside this tower"
        pixels = prepared.tensors.get("pixel_values", prepared.tensors.get("pixel_values_videos"))
        hidden = self.in_tower_order(self.tower.patch_embed(pixels), prepared)
        rotary = self._rotary(prepared)
        states = VisionStates(features=hidden, extras={"rotary": rotary, "prepared": prepared})
        bounds = {
            everything: self._bounds(self.attention_lengths(everything, prepared), hidden.device)
            for everything in (True, False)
        }
        for index, block in enumerate(self.tower.blocks):
            if index in watch:
                states.inputs[index] = hidden
            hidden = block(hidden, cu_seqlens=bounds[self.sees_everything(index)], position_embeddings=rotary)
        states.features = hidden.view(prepared.batch, -1, hidden.shape[-1])
        return states

    def sees_everything(self, block: int) -> bool:
        """Whether a block's attention spans the whole picture."""
        return True

    def attention_lengths(self, everything: bool, prepared: Prepared) -> list[int]:
        """How many patches attend to each other, group by group, over all samples."""
        return segments(prepared.layout, self.shape.vision.merge_side) * prepared.batch

    def in_tower_order(self, per_patch: Tensor, prepared: Prepared) -> Tensor:
        """(patches of all samples, …) as the tower wants them."""
        return per_patch

    def in_layout_order(self, per_group: Tensor, prepared: Prepared) -> Tensor:
        """(batch, groups, …) from the tower's order back to the picture's."""
        return per_group

    def _bounds(self, lengths: list[int], device: torch.device) -> Tensor:
        """Where attention begins and ends; read on the host except by flash-attn, hence kept there."""
        bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        return bounds.to(device) if "flash" in self.config._attn_implementation else bounds

    def _rotary(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """(patches of all samples, head dim) each: frequencies for rows, then for columns, twice."""
        frequencies = self.tower.rotary_pos_emb.inv_freq.float()
        places = torch.stack((prepared.places["patch_row"], prepared.places["patch_col"]), dim=1)
        angles = (places[..., None].float() * frequencies).flatten(1)
        angles = torch.cat((angles, angles), dim=-1).repeat(prepared.batch, 1)
        angles = self.in_tower_order(angles, prepared)
        return angles.cos(), angles.sin()

    def embed_visual(self, states: VisionStates, prepared: Prepared) -> Tensor:
        merged = self.tower.merger(states.features.flatten(0, 1))
        return self.in_layout_order(merged.view(prepared.batch, -1, merged.shape[-1]), prepared)

    def spread(self, per_patch: Tensor, prepared: Prepared) -> Tensor:
        unit = self.shape.vision.merge_side**2
        return per_patch.reshape(per_patch.shape[0], -1, unit, *per_patch.shape[2:]).mean(dim=2)

    def cls_attention(self, states: VisionStates, layer: int, *, logits: bool) -> Tensor:
        raise NotImplementedError("this tower has no class token")

    def received_attention(self, states: VisionStates, layer: int) -> Tensor:
        """Within each picture, step of a video, or window of a windowed block."""
        attention, prepared = self.tower.blocks[layer].attn, states.extras["prepared"]
        rotate = sys.modules[type(attention).__module__].apply_rotary_pos_emb_vision
        queries, keys, _ = self._split(states, layer)
        queries, keys = rotate(queries, keys, *states.extras["rotary"])
        received, first = [], 0
        for length in self.attention_lengths(self.sees_everything(layer), prepared):
            part = slice(first, first + length)
            received.append(_received(queries[part], keys[part], attention.scaling))
            first += length
        return self._ungrouped(torch.cat(received), prepared)

    def patch_keys(self, states: VisionStates, layer: int) -> Tensor:
        """Before rotation: what a patch shows, not where it lies."""
        keys = self._split(states, layer)[1].flatten(1)
        return self._ungrouped(keys, states.extras["prepared"])

    def _split(self, states: VisionStates, layer: int) -> tuple[Tensor, ...]:
        """Queries, keys and values, (patches of all samples, heads, head dim) each."""
        block = self.tower.blocks[layer]
        projected = block.attn.qkv(block.norm1(states.inputs[layer]))
        split: tuple[Tensor, ...] = projected.view(len(projected), 3, block.attn.num_heads, -1).unbind(1)
        return split

    def _ungrouped(self, per_patch: Tensor, prepared: Prepared) -> Tensor:
        """(patches of all samples, …) in the tower's order → (batch, patches, …) in the layout's."""
        unit = self.shape.vision.merge_side**2
        groups = per_patch.view(prepared.batch, -1, unit, *per_patch.shape[1:])
        return self.in_layout_order(groups, prepared).flatten(1, 2)


class Qwen25VL(Qwen2VL):
    family: ClassVar[str] = "qwen2_5_vl"

    @property
    def seconds_step(self) -> int:
        """Two frames a second, two frames to a step: a step is a second."""
        step: int = self.config.vision_config.tokens_per_second
        return step

    def places(self, layout: VisualLayout) -> dict[str, Tensor]:
        """`window`: the group of patches at each place of the window order; `unwindow`: the way back."""
        order = torch.tensor(windows(layout, self.shape.vision)[0])
        return {**super().places(layout), "window": order, "unwindow": order.argsort()}

    def sees_everything(self, block: int) -> bool:
        return block in self.shape.vision.full_attention_blocks

    def attention_lengths(self, everything: bool, prepared: Prepared) -> list[int]:
        if everything:
            return super().attention_lengths(everything, prepared)
        return windows(prepared.layout, self.shape.vision)[1] * prepared.batch

    def in_tower_order(self, per_patch: Tensor, prepared: Prepared) -> Tensor:
        unit = self.shape.vision.merge_side**2
        groups = per_patch.view(prepared.batch, -1, unit, per_patch.shape[-1])
        return groups.index_select(1, prepared.places["window"]).flatten(0, 2)

    def in_layout_order(self, per_group: Tensor, prepared: Prepared) -> Tensor:
        return per_group.index_select(1, prepared.places["unwindow"])


def _received(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """(patches, heads, head dim) → (patches,)."""
    return mean_received(queries.transpose(0, 1)[None], keys.transpose(0, 1)[None], scale)[0]
