"""Every family at a size that a test can afford: the catalog's shapes made small, random weights, fp32, no files.

`build_tiny("llava-next")` is a new adapter; `TINY` lists the names. `workloads_for` gives requests
that together use all a family can be asked.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import torch

from tokprof.models import load
from tokprof.models.catalog import Entry, find, merger, two_layers
from tokprof.models.huggingface import HuggingFaceAdapter
from tokprof.recipe import Workload
from tokprof.shapes import DecoderShape, VisionShape

LLAMA = {"depth": 6, "width": 48, "ffn": 96, "heads": 4, "head_dim": 12, "vocab": 128}
QWEN = {"depth": 6, "width": 64, "ffn": 96, "heads": 4, "kv_heads": 2, "head_dim": 16, "vocab": 128}
CLIP = {"depth": 4, "layers_run": 3, "width": 32, "ffn": 64, "heads": 4, "image_px": 24, "patch_px": 4}
SIGLIP = {"depth": 3, "layers_run": 3, "width": 32, "ffn": 64, "heads": 4, "image_px": 28, "patch_px": 4}
QWEN_TOWER = {"depth": 3, "layers_run": 3, "width": 32, "ffn": 128, "heads": 2, "image_px": 64, "patch_px": 4}
WINDOWED = {**QWEN_TOWER, "ffn": 48, "window_px": 16, "full_attention_blocks": (2,)}
GRIDS = {"grids_px": tuple((24 * rows, 24 * cols) for rows, cols in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3)))}
MANY_GRIDS = {"grids_px": tuple((28 * rows, 28 * cols) for rows in range(1, 4) for cols in range(1, 4))}
PIXELS = {"min_pixels": 16 * 64, "max_pixels": 48 * 64}


def _small(model: str, decoder: dict[str, int], tower: dict[str, Any], **changes: Any) -> Entry:
    """The catalog's model with smaller numbers; whatever is not a size stays as it is."""
    entry = find(model)
    vision: VisionShape = replace(entry.shape.vision, **tower)
    text: DecoderShape = replace(entry.shape.decoder, **decoder)
    project = merger if entry.shape.tiling == "native" else two_layers
    frames = 4 if entry.shape.videos else 0
    shape = replace(
        entry.shape,
        name=f"tiny-{model}",
        vision=vision,
        decoder=text,
        projector=project(vision, text),
        default_frames=frames,
        **changes,
    )
    return Entry(shape=shape, template=entry.template, picture=(640, 480))


def _entries() -> dict[str, Entry]:
    whole, grouped = {**LLAMA, "kv_heads": 4}, {**LLAMA, "kv_heads": 2}
    return {
        "llava": _small("llava-1.5-7b", whole, CLIP),
        "llava-next": _small("llava-next-7b", whole, CLIP, **GRIDS),
        "llava-next-grouped": _small("llava-next-mistral-7b", grouped, CLIP, **GRIDS),
        "onevision": _small("llava-onevision-7b", QWEN, SIGLIP, max_tiles=4, **MANY_GRIDS),
        "qwen2-vl": _small("qwen2-vl-2b", QWEN, QWEN_TOWER, **PIXELS),  # its head is the embedding
        "qwen2.5-vl": _small("qwen2.5-vl-7b", QWEN, WINDOWED, **PIXELS),
        "video-llava": _small("video-llava-7b", whole, CLIP),
    }


TINY = tuple(_entries())


def tiny_entry(family: str) -> Entry:
    return _entries()[family]


def build_tiny(family: str, *, attention: str = "sdpa", seed: int = 0) -> HuggingFaceAdapter:
    """A new adapter; its weights keep activations near 1, so that attention and order matter everywhere."""
    adapter = load(tiny_entry(family), "random", attention=attention, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in adapter.model.named_parameters():
        if "embed_tokens" in name:
            parameter.data.normal_(0.0, 1.0, generator=generator)
        elif parameter.dim() > 1:
            parameter.data.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        elif name.endswith("bias"):
            parameter.data.normal_(0.0, 0.1, generator=generator)
    return adapter


@cache
def tiny(family: str) -> HuggingFaceAdapter:
    """One adapter per family for all tests that only look."""
    return build_tiny(family)


def tiny_adapters() -> dict[str, HuggingFaceAdapter]:
    return {family: tiny(family) for family in TINY}


def workloads_for(family: str) -> dict[str, Workload]:
    """Pictures, several pictures, a batch, and videos where the family has them."""
    shape = tiny_entry(family).shape
    requests = {
        "picture": Workload(image_size=(64, 40)),
        "tall": Workload(image_size=(30, 90)),
        "several": Workload(image_count=3),
        "batch": Workload(image_size=(50, 70), batch=2),
    }
    if shape.tiling == "anyres":
        requests["fixed"] = Workload(image_size=(64, 40), anyres="fixed")
    if shape.videos:
        requests["video"] = Workload(frames=4, image_size=(48, 32))
        requests["video-batch"] = Workload(frames=3, image_size=(48, 32), batch=2)
    return requests
