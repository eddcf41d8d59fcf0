"""Every model by name, with its dimensions: no hub, no torch, no transformers.

`find(name)` also takes a local folder, or the id of a repository on the hub, of a family that is
known here; its `config.json` then tells the dimensions (see `configuration`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from os.path import expanduser
from pathlib import Path
from typing import Any, Literal

from tokprof.errors import InputError, UnknownNameError
from tokprof.shapes import DecoderShape, ModelShape, VisionShape

CLIP_336 = VisionShape(
    kind="clip", depth=24, layers_run=23, width=1024, ffn=4096, heads=16, image_px=336, patch_px=14, cls_token=True
)
CLIP_224 = VisionShape(
    kind="clip", depth=24, layers_run=23, width=1024, ffn=4096, heads=16, image_px=224, patch_px=14, cls_token=True
)
SIGLIP_384 = VisionShape(
    kind="siglip", depth=26, layers_run=26, width=1152, ffn=4304, heads=16, image_px=384, patch_px=14, cls_token=False
)
QWEN2_TOWER = VisionShape(
    kind="qwen2vl",
    depth=32,
    layers_run=32,
    width=1280,
    ffn=5120,
    heads=16,
    image_px=448,
    patch_px=14,
    cls_token=False,
    temporal_patch=2,
    merge_side=2,
)
QWEN25_TOWER = VisionShape(
    kind="qwen2.5vl",
    depth=32,
    layers_run=32,
    width=1280,
    ffn=3420,
    heads=16,
    image_px=448,
    patch_px=14,
    cls_token=False,
    ffn_matrices=3,
    temporal_patch=2,
    merge_side=2,
    window_px=112,
    full_attention_blocks=(7, 15, 23, 31),
)

VICUNA_7B = DecoderShape(depth=32, width=4096, ffn=11008, heads=32, kv_heads=32, vocab=32064)
VICUNA_13B = DecoderShape(depth=40, width=5120, ffn=13824, heads=40, kv_heads=40, vocab=32064)
MOBILELLAMA = DecoderShape(depth=32, width=2560, ffn=6912, heads=32, kv_heads=32, vocab=32064)
MISTRAL_7B = DecoderShape(depth=32, width=4096, ffn=14336, heads=32, kv_heads=8, vocab=32064)
QWEN2_7B = DecoderShape(depth=28, width=3584, ffn=18944, heads=28, kv_heads=4, vocab=152064, qkv_bias=True)
ONEVISION_7B = DecoderShape(depth=28, width=3584, ffn=18944, heads=28, kv_heads=4, vocab=152128, qkv_bias=True)
ONEVISION_05B = DecoderShape(
    depth=24, width=896, ffn=4864, heads=14, kv_heads=2, vocab=152000, qkv_bias=True, tied_head=True
)
QWEN2_2B = DecoderShape(
    depth=28, width=1536, ffn=8960, heads=12, kv_heads=2, vocab=151936, qkv_bias=True, tied_head=True
)

NEXT_GRIDS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
ONEVISION_GRIDS = tuple((384 * rows, 384 * cols) for rows in range(1, 7) for cols in range(1, 7))
QWEN_PIXELS = (56 * 56, 16384 * 28 * 28)

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")

Template = Literal["vicuna", "vicuna-system", "mistral", "chatml", "qwen-vl"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model that can be profiled. `repository`: where the hub has its weights, if it has them.

    `questions`: of the bundled ones, which these weights were trained to answer, so many are asked by default.
    """

    shape: ModelShape
    repository: str = ""
    folder: Path | None = None
    template: Template = "vicuna"
    picture: tuple[int, int] = (640, 480)  # default (width, height)
    note: str = ""
    questions: int = 0

    @property
    def name(self) -> str:
        return self.shape.name


def two_layers(vision: VisionShape, decoder: DecoderShape) -> tuple[tuple[int, int], ...]:
    """LLaVA's projector."""
    return ((vision.width, decoder.width), (decoder.width, decoder.width))


def merger(vision: VisionShape, decoder: DecoderShape) -> tuple[tuple[int, int], ...]:
    """Qwen's: the patches that merge lie side by side."""
    wide = vision.width * vision.merge_side**2
    return ((wide, wide), (wide, decoder.width))


def _llava(name: str, decoder: DecoderShape) -> ModelShape:
    return ModelShape(
        name=name,
        family="llava",
        decoder=decoder,
        vision=CLIP_336,
        projector=two_layers(CLIP_336, decoder),
        tiling="single",
    )


def _llava_next(name: str, decoder: DecoderShape) -> ModelShape:
    return ModelShape(
        name=name,
        family="llava_next",
        decoder=decoder,
        vision=CLIP_336,
        projector=two_layers(CLIP_336, decoder),
        tiling="anyres",
        grids_px=NEXT_GRIDS,
    )


def _onevision(name: str, decoder: DecoderShape) -> ModelShape:
    return ModelShape(
        name=name,
        family="llava_onevision",
        decoder=decoder,
        vision=SIGLIP_384,
        projector=two_layers(SIGLIP_384, decoder),
        tiling="anyres-max",
        grids_px=ONEVISION_GRIDS,
        video_pool=2,
        max_tiles=9,
        videos=True,
        default_frames=32,
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
        default_frames=16,
        min_pixels=QWEN_PIXELS[0],
        max_pixels=QWEN_PIXELS[1],
    )


def _video_llava(name: str, decoder: DecoderShape) -> ModelShape:
    return ModelShape(
        name=name,
        family="video_llava",
        decoder=decoder,
        vision=CLIP_224,
        projector=two_layers(CLIP_224, decoder),
        tiling="video-frames",
        videos=True,
        default_frames=8,
    )


def _entries() -> tuple[Entry, ...]:
    return (
        Entry(shape=_llava("llava-1.5-7b", VICUNA_7B), repository="llava-hf/llava-1.5-7b-hf"),
        Entry(shape=_llava("llava-1.5-13b", VICUNA_13B), repository="llava-hf/llava-1.5-13b-hf"),
        Entry(
            shape=_llava("llava-1.5-mobilellama-2.7b", MOBILELLAMA),
            note="no public weights in Hugging Face's format: a folder of your own, or random weights",
        ),
        Entry(
            shape=_llava_next("llava-next-7b", VICUNA_7B),
            repository="llava-hf/llava-v1.6-vicuna-7b-hf",
            template="vicuna-system",
        ),
        Entry(
            shape=_llava_next("llava-next-13b", VICUNA_13B),
            repository="llava-hf/llava-v1.6-vicuna-13b-hf",
            template="vicuna-system",
        ),
        Entry(
            shape=_llava_next("llava-next-mistral-7b", MISTRAL_7B),
            repository="llava-hf/llava-v1.6-mistral-7b-hf",
            template="mistral",
        ),
        Entry(
            shape=_onevision("llava-onevision-7b", ONEVISION_7B),
            repository="llava-hf/llava-onevision-qwen2-7b-ov-hf",
            template="chatml",
        ),
        Entry(
            shape=_onevision("llava-onevision-0.5b", ONEVISION_05B),
            repository="llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
            template="chatml",
        ),
        Entry(
            shape=_qwen("qwen2-vl-7b", "qwen2_vl", QWEN2_TOWER, QWEN2_7B),
            repository="Qwen/Qwen2-VL-7B-Instruct",
            template="qwen-vl",
        ),
        Entry(
            shape=_qwen("qwen2-vl-2b", "qwen2_vl", QWEN2_TOWER, QWEN2_2B),
            repository="Qwen/Qwen2-VL-2B-Instruct",
            template="qwen-vl",
        ),
        Entry(
            shape=_qwen("qwen2.5-vl-7b", "qwen2_5_vl", QWEN25_TOWER, QWEN2_7B),
            repository="Qwen/Qwen2.5-VL-7B-Instruct",
            template="qwen-vl",
        ),
        Entry(shape=_video_llava("video-llava-7b", VICUNA_7B), repository="LanguageBind/Video-LLaVA-7B-hf"),
    )


def demo_folder() -> Path:
    return Path(__file__).parent.parent / "demo" / "llava-next"


@cache
def _known() -> Mapping[str, Entry]:
    entries = {entry.name: entry for entry in _entries()}
    if (demo_folder() / "config.json").is_file():
        shape = shape_in(demo_folder(), "demo")
        entries["demo"] = Entry(shape=shape, folder=demo_folder(), picture=(672, 672), questions=80)
    return entries


def names() -> list[str]:
    return sorted(_known())


def entries() -> list[Entry]:
    """In the order of the table above."""
    return list(_known().values())


def find(name: str) -> Entry:
    """The entry behind a name, a local folder, or the id of a repository on the hub."""
    known = _known()
    if name in known:
        return known[name]
    for entry in known.values():
        if entry.repository and name == entry.repository:
            return entry
    folder = Path(expanduser(name))
    if name and folder.is_dir():
        return _from_folder(folder, folder.resolve().name, folder)
    if REPOSITORY.fullmatch(name):
        from tokprof.models.hub import configuration

        kept = configuration(name)
        if kept is not None:
            return _from_folder(kept, name, None)
    hint = "there is no such folder, and no such repository in the cache or on the hub" if "/" in name else ""
    raise UnknownNameError("model", name, known, hint)


def _from_folder(folder: Path, name: str, local: Path | None) -> Entry:
    from tokprof.models.configuration import template_of

    shape = shape_in(folder, name)
    return Entry(shape=shape, repository="" if local else name, folder=local, template=template_of(shape.family))


def shape_in(folder: Path, name: str) -> ModelShape:
    from tokprof.models.configuration import pixels_of, shape_of

    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} has no config.json", "give the folder of a model saved by transformers")
    processor = folder / "preprocessor_config.json"
    pixels = pixels_of(_read_json(processor)) if processor.is_file() else QWEN_PIXELS
    return shape_of(_read_json(folder / "config.json"), name, pixels)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}", "save the model again with save_pretrained") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is no configuration", "save the model again with save_pretrained")
    return content
