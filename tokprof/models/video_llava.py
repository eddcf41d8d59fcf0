"""Video-LLaVA (arXiv 2311.10122): one CLIP tower for frames, one for pictures, LLaVA's projector, Vicuna.

As Hugging Face has it, each frame keeps its class token, in front of its patches: 257 tokens.
Like a newline it shows no place; so tokens are projected all together, not one by one.
"""

from __future__ import annotations

from collections.abc import Collection
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor

from tokprof.models.adapter import EditTower, Prepared, VisionStates
from tokprof.models.llava import Llava
from tokprof.models.tower import Tower
from tokprof.workload import Request


class VideoLlava(Llava):
    family: ClassVar[str] = "video_llava"
    projects_by_token: ClassVar[bool] = False
    video_token: ClassVar[bool] = True

    def build_towers(self) -> None:
        vision = self.shape.vision
        options: dict[str, Any] = {"cls_token": vision.cls_token, "layers_run": vision.layers_run}
        self.tower = Tower(self.inner.image_tower, **options)
        self.video_tower = Tower(self.inner.video_tower, **options)

    def pixels(self, request: Request) -> dict[str, Tensor]:
        pixels = super().pixels(request)["pixel_values"]
        if not request.video:
            return {"pixel_values": pixels}
        return {"pixel_values_videos": pixels.view(len(request.samples), -1, *pixels.shape[1:])}

    def encode(
        self,
        prepared: Prepared,
        watch: Collection[int] = (),
        stops: Collection[int] = (),
        edit: EditTower | None = None,
    ) -> VisionStates:
        videos = prepared.tensors.get("pixel_values_videos")
        if videos is None:
            return super().encode(prepared, watch, stops, edit)
        states = self.video_tower.run(videos.flatten(0, 1), watch, stops, edit)
        states.extras["tower"] = self.video_tower
        return states

    def embed_visual(self, states: VisionStates, prepared: Prepared) -> Tensor:
        if states.merged or not prepared.frames:
            return super().embed_visual(states, prepared)
        assert states.cls is not None
        whole = torch.cat((states.cls[:, None], states.features), dim=1)
        return self.by_sample(self.project(whole), prepared)

    def forward_inputs(self, prepared: Prepared) -> dict[str, Any]:
        inputs = super().forward_inputs(prepared)
        if "pixel_values" in inputs and "pixel_values" not in signature(self.model.forward).parameters:
            inputs["pixel_values_images"] = inputs.pop("pixel_values")  # its name up to transformers 5.17
        return inputs

    def tower_of(self, states: VisionStates) -> Tower:
        tower: Tower = states.extras.get("tower", self.tower)
        return tower
