"""Bytes a request keeps and moves, from integers alone. No torch.

Moved bytes are the least an engine with fused attention has to move: every matrix product reads its
weights and input and writes its output once; attention reads queries, keys and values and writes one
output, never an n×n matrix. Norms and activations are taken to be fused. So the roofline drawn from
them is a true lower bound of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokprof.flops import work
from tokprof.policies.base import Plan, Scene
from tokprof.shapes import DecoderShape, ModelShape, VisionShape

if TYPE_CHECKING:
    from tokprof.flops.analytic import Request


@dataclass(frozen=True)
class Storage:
    """Bytes that lie in memory: matrices' weights, the cache after prefill, the widest layer's activations."""

    weights: int
    kv_cache: int
    activations: int


def stage_bytes(asked: Request, bytes_per_value: int) -> dict[str, int]:
    """Stage → bytes moved in one request; deciding is left out, its traffic is each policy's own."""
    scene, plan, steps = asked.scene, asked.plan, asked.steps
    decoder = scene.model.decoder
    step = _step_values(scene, plan)
    cached = scene.batch * decoder.depth * decoder.kv_values_per_token
    values = {
        "vision": _vision_values(scene, plan),
        "project": _projector_values(scene, plan),
        "prefill": _prefill_values(asked) + _head_values(decoder, scene.batch * asked.prompt_positions),
    }
    if steps:
        values["first_decode"] = step + cached
    if steps > 1:
        values["decode"] = (steps - 1) * step + cached * (steps * (steps + 1) // 2 - 1)
    return {stage: bytes_per_value * count for stage, count in values.items()}


def storage(asked: Request, bytes_per_value: int) -> Storage:
    scene = asked.scene
    decoder, vision = scene.model.decoder, scene.model.vision
    cached = sum(work.cache_lengths(scene, asked.plan)) * decoder.kv_values_per_token
    longest = max(max(lengths) for lengths in asked.passes)
    in_decoder = longest * (2 * decoder.width + decoder.ffn_matrices * decoder.ffn)
    in_tower = sum(work.tower_lengths(vision, scene.layout)) * (2 * vision.width + vision.ffn_matrices * vision.ffn)
    return Storage(
        weights=bytes_per_value * weight_values(scene.model),
        kv_cache=bytes_per_value * scene.batch * cached,
        activations=bytes_per_value * scene.batch * max(in_decoder, in_tower),
    )


def weight_values(model: ModelShape) -> int:
    """Entries of all matrices, embeddings included; norms and biases apart."""
    decoder, vision = model.decoder, model.vision
    tower = vision.depth * vision.block_parameters + vision.patch_values * vision.width
    projector = sum(inputs * outputs for inputs, outputs in model.projector)
    tables = decoder.vocab * decoder.width * (1 if decoder.tied_head else 2)
    return tower + projector + decoder.depth * decoder.layer_parameters + tables


def _layer_values(decoder: DecoderShape) -> int:
    """What one token makes a decoder layer read and write, the keys and values of other tokens apart."""
    qkv = decoder.query_width + 2 * decoder.kv_width
    attention = (decoder.width + qkv) + (qkv + decoder.query_width) + (decoder.query_width + decoder.width)
    return attention + 2 * decoder.width + decoder.ffn_matrices * decoder.ffn


def _prefill_values(asked: Request) -> int:
    scene, decoder = asked.scene, asked.scene.model.decoder
    beside = [scene.text + visual for visual in asked.plan.side_layers]
    lengths = [*(length for lengths in asked.passes for length in lengths), *beside]
    return len(lengths) * decoder.layer_parameters + scene.batch * sum(lengths) * _layer_values(decoder)


def _step_values(scene: Scene, plan: Plan) -> int:
    """One decode step right after prefill, its own keys and values apart: weights, head, the cache it reads."""
    decoder = scene.model.decoder
    cache = sum(work.read_lengths(scene, plan)) * decoder.kv_values_per_token
    tokens = scene.batch * decoder.depth * (_layer_values(decoder) - decoder.kv_values_per_token)
    weights = decoder.depth * decoder.layer_parameters
    return weights + tokens + scene.batch * cache + _head_values(decoder, scene.batch)


def _head_values(decoder: DecoderShape, positions: int) -> int:
    return decoder.width * decoder.vocab + positions * (decoder.width + decoder.vocab)


def _projector_values(scene: Scene, plan: Plan) -> int:
    tokens = scene.batch * work.projected_tokens(scene, plan)
    return sum(inputs * outputs + tokens * (inputs + outputs) for inputs, outputs in scene.model.projector)


def _vision_values(scene: Scene, plan: Plan) -> int:
    vision = scene.model.vision
    lengths = work.tower_lengths(vision, scene.layout)
    patches = sum(lengths) - len(lengths) * int(vision.cls_token)
    embedding = vision.patch_values * vision.width + scene.batch * patches * (vision.patch_values + vision.width)
    weights = vision.layers_run * vision.block_parameters
    tokens = scene.batch * sum(_tower_tokens(vision, plan.tower, lengths))
    return embedding + weights + tokens * (11 * vision.width + vision.ffn_matrices * vision.ffn)


def _tower_tokens(vision: VisionShape, tower: Sequence[int] | None, lengths: Sequence[int]) -> list[int]:
    """Tokens of all passes entering each block that runs."""
    if tower is None:
        return [sum(lengths)] * vision.layers_run
    return [len(lengths) * (count + int(vision.cls_token)) for count in tower[: vision.layers_run]]
