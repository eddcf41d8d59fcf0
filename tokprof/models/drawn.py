"""Configurations for models whose weights we draw: `ModelShape` → the dictionary of a `config.json`."""

from __future__ import annotations

from typing import Any

from tokprof.shapes import DecoderShape, ModelShape, VisionShape

ROOM = 32768  # positions; rotary tables are computed as needed


def config_of(shape: ModelShape) -> dict[str, Any]:
    """What the family's configuration class takes to become this shape."""
    native = shape.tiling == "native"
    vision = _qwen_vision(shape.vision, shape.decoder) if native else _tower(shape.vision)
    config: dict[str, Any] = {
        "model_type": shape.family,
        "text_config": _text(shape),
        "vision_config": vision,
        "tie_word_embeddings": shape.decoder.tied_head,
        **_special_tokens(shape, native),
    }
    if not native:
        config["vision_feature_layer"] = shape.vision.layers_run - shape.vision.depth - 1
        config["vision_feature_select_strategy"] = "default" if shape.vision.cls_token else "full"
    if shape.grids_px:
        config["image_grid_pinpoints"] = [list(grid) for grid in shape.grids_px]
    if shape.max_tiles:
        config["vision_aspect_ratio"] = f"anyres_max_{shape.max_tiles}"
    return config


def _special_tokens(shape: ModelShape, native: bool) -> dict[str, int]:
    """The published ids where the vocabulary has them, else the last ones."""
    last = shape.decoder.vocab - 1
    if native:
        first = 151652 if last >= 151656 else last - 4
        names = ("vision_start_token_id", "vision_end_token_id", "", "image_token_id", "video_token_id")
        return {name: first + offset for offset, name in enumerate(names) if name}
    published = 151646 if shape.family == "llava_onevision" else 32000
    first = published if last > published else last - 1
    tokens = {"image_token_index": first}
    if shape.videos:
        tokens["video_token_index"] = first + 1
    return tokens


def _text(shape: ModelShape) -> dict[str, Any]:
    decoder = shape.decoder
    native = shape.tiling == "native"
    if native:
        kind = f"{shape.family}_text"
    elif decoder.qkv_bias:
        kind = "qwen2"
    else:
        kind = "llama" if decoder.kv_heads == decoder.heads else "mistral"
    text: dict[str, Any] = {
        "model_type": kind,
        "hidden_size": decoder.width,
        "intermediate_size": decoder.ffn,
        "num_hidden_layers": decoder.depth,
        "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads,
        "vocab_size": decoder.vocab,
        "max_position_embeddings": ROOM,
        "rms_norm_eps": 1e-6 if decoder.qkv_bias else 1e-5,
        "tie_word_embeddings": decoder.tied_head,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4 if kind == "llama" else 1e6},
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    if native:
        text["rope_parameters"]["mrope_section"] = _rotary_sections(decoder)
    elif kind != "qwen2":
        text["head_dim"] = decoder.head_dim
    if kind == "mistral":
        text["sliding_window"] = None
    return text


def _rotary_sections(decoder: DecoderShape) -> list[int]:
    """Frequencies for time, height and width: 16, 24, 24 of 64."""
    half = decoder.head_dim // 2
    time = half // 4
    height = (half - time) // 2
    return [time, height, half - time - height]


def _tower(vision: VisionShape) -> dict[str, Any]:
    tower: dict[str, Any] = {
        "model_type": f"{vision.kind}_vision_model",
        "hidden_size": vision.width,
        "intermediate_size": vision.ffn,
        "num_hidden_layers": vision.depth,
        "num_attention_heads": vision.heads,
        "image_size": vision.image_px,
        "patch_size": vision.patch_px,
    }
    return tower if vision.kind == "clip" else {**tower, "vision_use_head": False}


def _qwen_vision(vision: VisionShape, decoder: DecoderShape) -> dict[str, Any]:
    common: dict[str, Any] = {
        "depth": vision.depth,
        "num_heads": vision.heads,
        "patch_size": vision.patch_px,
        "spatial_merge_size": vision.merge_side,
        "temporal_patch_size": vision.temporal_patch,
    }
    if vision.kind == "qwen2vl":
        sizes = {"embed_dim": vision.width, "hidden_size": decoder.width, "mlp_ratio": vision.ffn // vision.width}
        return {**common, "model_type": "qwen2_vl_vision", **sizes}
    return {
        **common,
        "model_type": "qwen2_5_vl_vision",
        "hidden_size": vision.width,
        "out_hidden_size": decoder.width,
        "intermediate_size": vision.ffn,
        "window_size": vision.window_px,
        "fullatt_block_indexes": list(vision.full_attention_blocks),
        "tokens_per_second": 2,
    }
