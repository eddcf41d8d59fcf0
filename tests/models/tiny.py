"""Every family at a size that a test can afford: random weights, fp32, no files.

`build_tiny("llava-next")` is a new adapter; `TINY` lists the names. `workloads_for` gives requests
that together use all a family can be asked.
"""

from __future__ import annotations

from functools import cache

import torch

from tokprof.models import load
from tokprof.models.catalog import Entry, Template, merger, two_layers
from tokprof.models.huggingface import HuggingFaceAdapter
from tokprof.recipe import Workload
from tokprof.shapes import DecoderShape, ModelShape, VisionShape

DECODER = DecoderShape(depth=6, width=48, ffn=96, heads=4, kv_heads=4, vocab=128)
GROUPED = DecoderShape(depth=6, width=48, ffn=96, heads=4, kv_heads=2, vocab=128)
QWEN = DecoderShape(depth=6, width=64, ffn=96, heads=4, kv_heads=2, vocab=128, qkv_bias=True)
TIED = DecoderShape(depth=6, width=64, ffn=96, heads=4, kv_heads=2, vocab=128, qkv_bias=True, tied_head=True)
CLIP = VisionShape(
    kind="clip", depth=4, layers_run=3, width=32, ffn=64, heads=4, image_px=24, patch_px=4, cls_token=True
)
SIGLIP = VisionShape(
    kind="siglip", depth=3, layers_run=3, width=32, ffn=64, heads=4, image_px=28, patch_px=4, cls_token=False
)
QWEN_TOWER = VisionShape(
    kind="qwen2vl",
    depth=3,
    layers_run=3,
    width=32,
    ffn=128,
    heads=2,
    image_px=64,
    patch_px=4,
    cls_token=False,
    temporal_patch=2,
    merge_side=2,
)
QWEN25_TOWER = VisionShape(
    kind="qwen2.5vl",
    depth=3,
    layers_run=3,
    width=32,
    ffn=48,
    heads=2,
    image_px=64,
    patch_px=4,
    cls_token=False,
    ffn_matrices=3,
    temporal_patch=2,
    merge_side=2,
    window_px=16,
    full_attention_blocks=(2,),
)
GRIDS = tuple((24 * rows, 24 * cols) for rows, cols in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3)))
MANY_GRIDS = tuple((28 * rows, 28 * cols) for rows in range(1, 4) for cols in range(1, 4))


def _entry(shape: ModelShape, template: Template = "vicuna") -> Entry:
    return Entry(shape=shape, template=template, picture=(640, 480))


def _clip(name: str, family: str, decoder: DecoderShape) -> ModelShape:
    tilings = {"llava": "single", "llava_next": "anyres", "video_llava": "video-frames"}
    video = family == "video_llava"
    return ModelShape(
        name=name,
        family=family,
        decoder=decoder,
        vision=CLIP,
        projector=two_layers(CLIP, decoder),
        tiling=tilings[family],  # type: ignore[arg-type]
        grids_px=GRIDS if family == "llava_next" else (),
        videos=video,
        default_frames=4 if video else 0,
    )


def _onevision(decoder: DecoderShape) -> ModelShape:
    return ModelShape(
        name="tiny-onevision",
        family="llava_onevision",
        decoder=decoder,
        vision=SIGLIP,
        projector=two_layers(SIGLIP, decoder),
        tiling="anyres-max",
        grids_px=MANY_GRIDS,
        video_pool=2,
        max_tiles=4,
        videos=True,
        default_frames=4,
    )


def _qwen(name: str, family: str, vision: VisionShape, decoder: DecoderShape) -> ModelShape:
    return ModelShape(
        name=name,
        family=family,
        decoder=decoder,
        vision=vision,
        projector=merger(vision, decoder),
        tiling="native",
        rotary="mrope",
        videos=True,
        default_frames=4,
        min_pixels=16 * 64,
        max_pixels=48 * 64,
    )


def _entries() -> dict[str, Entry]:
    return {
        "llava": _entry(_clip("tiny-llava", "llava", DECODER)),
        "llava-next": _entry(_clip("tiny-llava-next", "llava_next", DECODER)),
        "llava-next-grouped": _entry(_clip("tiny-llava-next-grouped", "llava_next", GROUPED), "mistral"),
        "onevision": _entry(_onevision(QWEN), "chatml"),
        "qwen2-vl": _entry(_qwen("tiny-qwen2-vl", "qwen2_vl", QWEN_TOWER, TIED), "qwen-vl"),
        "qwen2.5-vl": _entry(_qwen("tiny-qwen2.5-vl", "qwen2_5_vl", QWEN25_TOWER, QWEN), "qwen-vl"),
        "video-llava": _entry(_clip("tiny-video-llava", "video_llava", DECODER)),
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
