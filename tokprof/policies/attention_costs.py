"""Multiply–accumulates of looking at a decoder layer's attention, for one sample.

What the engine computes, and what torch's FLOP counter sees: queries of the rows asked for; keys of
the whole sequence only where the layer has not run yet (otherwise they lie in the cache); the
product of the two. Softmax and means over rows or heads are no matrix work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tokprof.policies.base import Cost, Plan, Rows, Scene


def attention_macs(scene: Scene, rows: Rows, present: int, *, layer: Literal["previous", "next"]) -> int:
    """Work of `DecoderView.attention` while `present` visual tokens (newline tokens apart) are there."""
    decoder = scene.model.decoder
    sequence = scene.text + present + scene.fixed
    asked = {"last": 1, "instruction": scene.text_after, "visual": present}[rows]
    queries = asked * decoder.width * decoder.query_width
    keys = key_macs(scene, present) if layer == "next" else 0
    return queries + keys + decoder.heads * asked * sequence * decoder.head_dim


def key_macs(scene: Scene, present: int) -> int:
    """Work of `DecoderView.keys("next")`: the key projection of the whole sequence."""
    decoder = scene.model.decoder
    return (scene.text + present + scene.fixed) * decoder.width * decoder.kv_width


def attention_at(
    stops: Iterable[int], scene: Scene, plan: Plan, rows: Rows, *, layer: Literal["previous", "next"]
) -> list[Cost]:
    """One attention per stop, over the tokens that the plan leaves until there."""
    return [
        Cost(f"attention at layer {stop}", attention_macs(scene, rows, plan.layers[stop - 1], layer=layer))
        for stop in stops
    ]
