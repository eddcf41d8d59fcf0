"""Between a model's `config.json`, as a plain dictionary, and a `ModelShape`. No torch, no transformers.

`shape_of` reads what Hugging Face wrote (whatever it leaves out has the configuration class's
default); `config_of` writes what a family's configuration class takes, for weights that we draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tokprof.errors import InputError, UnsupportedError
from tokprof.models.catalog import QWEN_PIXELS, Template, merger, two_layers
from tokprof.shapes import DecoderShape, ModelShape, VisionShape

Config = Mapping[str, Any]

TEXT_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": dict(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32000
    ),
    "mistral": dict(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=32000,
    ),
    "qwen2": dict(
        hidden_size=4096,
        intermediate_size=22016,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
        vocab_size=151936,
    ),
    "qwen2_vl_text": dict(
        hidden_size=8192,
        intermediate_size=29568,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=152064,
    ),
}
TEXT_DEFAULTS["qwen2_5_vl_text"] = TEXT_DEFAULTS["qwen2_vl_text"]

VISION_DEFAULTS: dict[str, dict[str, Any]] = {
    "clip_vision_model": dict(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=224,
        patch_size=32,
    ),
    "siglip_vision_model": dict(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        image_size=224,
        patch_size=16,
    ),
}
CLIP_LARGE = dict(
    model_type="clip_vision_model",
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    image_size=336,
    patch_size=14,
)
SIGLIP_SO400M = dict(
    model_type="siglip_vision_model",
    hidden_size=1152,
    intermediate_size=4304,
    num_hidden_layers=26,
    num_attention_heads=16,
    image_size=384,
    patch_size=14,
)
NO_VISION_GIVEN: dict[str, dict[str, Any]] = {
    "llava": CLIP_LARGE,
    "llava_next": CLIP_LARGE,
    "video_llava": {**CLIP_LARGE, "image_size": 224},
    "llava_onevision": SIGLIP_SO400M,
}
QWEN_VISION_DEFAULTS: dict[str, dict[str, Any]] = {
    "qwen2_vl": dict(depth=32, embed_dim=1280, hidden_size=3584, mlp_ratio=4, num_heads=16, patch_size=14),
    "qwen2_5_vl": dict(
        depth=32,
        hidden_size=3584,
        intermediate_size=3420,
        num_heads=16,
        patch_size=14,
        window_size=112,
        fullatt_block_indexes=(7, 15, 23, 31),
    ),
}
TILINGS: dict[str, Literal["single", "anyres", "anyres-max", "native", "video-frames"]] = {
    "llava": "single",
    "llava_next": "anyres",
    "llava_onevision": "anyres-max",
    "qwen2_vl": "native",
    "qwen2_5_vl": "native",
    "video_llava": "video-frames",
}
TEMPLATES: dict[str, Template] = {"llava_onevision": "chatml", "qwen2_vl": "qwen-vl", "qwen2_5_vl": "qwen-vl"}
FRAMES = {"llava_onevision": 32, "qwen2_vl": 16, "qwen2_5_vl": 16, "video_llava": 8}
DEFAULT_GRIDS = {
    "llava_next": ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)),
    "llava_onevision": tuple((384 * rows, 384 * cols) for rows in range(1, 7) for cols in range(1, 7)),
}
REPAIR = "save the model again with save_pretrained"
ANYRES_MAX = "anyres_max_"


def template_of(family: str) -> Template:
    return TEMPLATES.get(family, "vicuna")


def pixels_of(processor: Config) -> tuple[int, int]:
    """The least and the most pixels that a native-resolution processor resizes to."""
    size = processor.get("size")
    size = size if isinstance(size, dict) else {}
    least = processor.get("min_pixels") or size.get("min_pixels") or size.get("shortest_edge")
    most = processor.get("max_pixels") or size.get("max_pixels") or size.get("longest_edge")
    if not all(isinstance(limit, int | float | None) for limit in (least, most)):
        raise InputError(f"the processor's limits of pixels are {least!r} and {most!r}", REPAIR)
    return int(least or QWEN_PIXELS[0]), int(most or QWEN_PIXELS[1])


def shape_of(config: Config, name: str, pixels: tuple[int, int] = QWEN_PIXELS) -> ModelShape:
    """The dimensions that a `config.json` tells. `pixels`: a native-resolution processor's least and most."""
    try:
        shape = _shape_of(config, name, pixels)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise InputError(f"{name}: the dimensions in its config.json make no sense: {error}", REPAIR) from error
    for part in (shape.decoder, shape.vision):
        for dimension in ("depth", "width", "ffn", "heads", "kv_heads", "vocab", "image_px", "patch_px"):
            if getattr(part, dimension, 1) < 1:
                raise InputError(f"{name}: {dimension} is {getattr(part, dimension)} in its config.json", REPAIR)
    return shape


def _shape_of(config: Config, name: str, pixels: tuple[int, int]) -> ModelShape:
    family = str(config.get("model_type", ""))
    if family not in TILINGS:
        raise UnsupportedError(
            f"{name}: models of type {family or 'unknown'!r} are not supported", f"supported: {', '.join(TILINGS)}"
        )
    decoder = _decoder_of(config, family, name)
    if TILINGS[family] == "native":
        vision = _qwen_vision_of(config.get("vision_config") or {}, family)
        return ModelShape(
            name=name,
            family=family,
            decoder=decoder,
            vision=vision,
            projector=merger(vision, decoder),
            tiling="native",
            rotary="mrope",
            videos=True,
            default_frames=FRAMES[family],
            min_pixels=pixels[0],
            max_pixels=pixels[1],
        )
    vision = _tower_of(config, family, name)
    grids = config.get("image_grid_pinpoints") or DEFAULT_GRIDS.get(family, ())
    onevision = family == "llava_onevision"
    return ModelShape(
        name=name,
        family=family,
        decoder=decoder,
        vision=vision,
        projector=two_layers(vision, decoder),
        tiling=TILINGS[family],
        grids_px=tuple((int(height), int(width)) for height, width in grids),
        video_pool=2 if onevision else 1,
        max_tiles=int(str(config.get("vision_aspect_ratio", "anyres_max_9")).removeprefix(ANYRES_MAX))
        if onevision
        else 0,
        videos=family in FRAMES,
        default_frames=FRAMES.get(family, 0),
    )


def _decoder_of(config: Config, family: str, name: str) -> DecoderShape:
    qwen = TILINGS[family] == "native"
    text = config.get("text_config") or (config if qwen else {})
    kind = (
        f"{family}_text" if qwen else str(text.get("model_type", "qwen2" if family == "llava_onevision" else "llama"))
    )
    if kind not in TEXT_DEFAULTS:
        raise UnsupportedError(
            f"{name}: language models of type {kind!r} are not supported", f"supported: {', '.join(TEXT_DEFAULTS)}"
        )
    filled = {**TEXT_DEFAULTS[kind], **{key: value for key, value in text.items() if value is not None}}
    heads = int(filled["num_attention_heads"])
    tied = filled.get("tie_word_embeddings", False) or config.get("tie_word_embeddings", False)
    return DecoderShape(
        depth=int(filled["num_hidden_layers"]),
        width=int(filled["hidden_size"]),
        ffn=int(filled["intermediate_size"]),
        heads=heads,
        kv_heads=int(filled.get("num_key_value_heads", heads)),
        vocab=int(filled["vocab_size"]),
        head_dim=0 if qwen else int(filled.get("head_dim", 0)),
        tied_head=bool(tied),
        qkv_bias=kind.startswith("qwen2") or bool(filled.get("attention_bias", False)),
    )


def _tower_of(config: Config, family: str, name: str) -> VisionShape:
    """CLIP or SigLIP, whose `vision_feature_layer`-th hidden states become the features."""
    given = config.get("vision_config") or NO_VISION_GIVEN[family]
    kind = str(given.get("model_type", "clip_vision_model"))
    if kind not in VISION_DEFAULTS:
        raise UnsupportedError(
            f"{name}: vision towers of type {kind!r} are not supported", f"supported: {', '.join(VISION_DEFAULTS)}"
        )
    filled = {**VISION_DEFAULTS[kind], **given}
    clip = kind == "clip_vision_model"
    layer = config.get("vision_feature_layer", -2 if family != "llava_onevision" else -1)
    strategy = config.get("vision_feature_select_strategy", "default" if family != "llava_onevision" else "full")
    if not isinstance(layer, int) or (strategy == "default") != clip:
        raise UnsupportedError(
            f"{name}: features of layer {layer} with strategy {strategy!r} are not supported",
            "one layer; 'default' with CLIP, 'full' with SigLIP",
        )
    depth = int(filled["num_hidden_layers"])
    return VisionShape(
        kind="clip" if clip else "siglip",
        depth=depth,
        layers_run=layer if layer >= 0 else depth + 1 + layer,
        width=int(filled["hidden_size"]),
        ffn=int(filled["intermediate_size"]),
        heads=int(filled["num_attention_heads"]),
        image_px=int(filled["image_size"]),
        patch_px=int(filled["patch_size"]),
        cls_token=clip,
    )


def _qwen_vision_of(given: Config, family: str) -> VisionShape:
    filled = {**QWEN_VISION_DEFAULTS[family], **given}
    windowed = family == "qwen2_5_vl"
    width = int(filled["hidden_size"] if windowed else filled["embed_dim"])
    patch = int(filled["patch_size"])
    return VisionShape(
        kind="qwen2.5vl" if windowed else "qwen2vl",
        depth=int(filled["depth"]),
        layers_run=int(filled["depth"]),
        width=width,
        ffn=int(filled["intermediate_size"] if windowed else width * filled["mlp_ratio"]),
        heads=int(filled["num_heads"]),
        image_px=32 * patch,
        patch_px=patch,
        cls_token=False,
        ffn_matrices=3 if windowed else 2,
        temporal_patch=int(filled.get("temporal_patch_size", 2)),
        merge_side=int(filled.get("spatial_merge_size", 2)),
        window_px=int(filled["window_size"]) if windowed else 0,
        full_attention_blocks=tuple(filled["fullatt_block_indexes"]) if windowed else (),
    )
