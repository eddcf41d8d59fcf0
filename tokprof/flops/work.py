"""Matrix work of a vision-language model's modules, in multiply–accumulates for one sample. No torch.

Only matrix products count (linear layers, convolutions, attention's two products), as in every
source we compare with; norms, activations, softmax and rotary tables are below 0.1 % of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from tokprof.policies.base import Plan, Scene
from tokprof.shapes import Block, DecoderShape, VisionShape, VisualLayout

Causal = Literal["full", "half"]


def pairs(queries: int, keys: int, causal: Causal = "full") -> int:
    """Query–key pairs: a dense kernel computes all of them, a causal one leaves out what a mask would hide."""
    hidden = queries * (queries - 1) // 2 if causal == "half" else 0
    return queries * keys - hidden


def layer_macs(decoder: DecoderShape, tokens: int, attended: int) -> int:
    """One decoder layer: q, k, v, o and the feed-forward matrices per token, QKᵀ and AV per attended pair."""
    return tokens * decoder.layer_parameters + 2 * decoder.query_width * attended


def prefill_macs(scene: Scene, layers: Sequence[int], causal: Causal = "full") -> tuple[int, ...]:
    """Per layer, for text and the visual tokens that enter it."""
    lengths = [scene.text + visual for visual in layers]
    return tuple(layer_macs(scene.model.decoder, n, pairs(n, n, causal)) for n in lengths)


def two_pass_macs(scene: Scene, compress: int, causal: Causal = "full") -> int:
    """One layer of a prefill that first compresses everything up to the last visual token into a few tokens.

    The text behind then reads those and itself, under a mask that no kernel skips.
    """
    first = scene.text - scene.text_after + scene.layout.count + compress
    reading = pairs(scene.text_after, compress + scene.text_after)
    decoder = scene.model.decoder
    return layer_macs(decoder, first, pairs(first, first, causal)) + layer_macs(decoder, scene.text_after, reading)


def cache_lengths(scene: Scene, plan: Plan) -> tuple[int, ...]:
    """Entries in each layer's cache after prefill."""
    text = scene.text if plan.cached_text is None else plan.cached_text
    return tuple(text + visual for visual in plan.layers)


def read_lengths(scene: Scene, plan: Plan) -> tuple[int, ...]:
    """Entries of prefill's cache that each layer reads in a decode step."""
    text = scene.text if plan.cached_text is None else plan.cached_text
    return tuple(text + visual for visual in plan.read or plan.layers)


def decode_macs(scene: Scene, plan: Plan, steps: int) -> int:
    """`steps` generated tokens, one at a time; step t attends to what a layer reads of its cache, itself included.

    Where not every entry is read, one more query per step asks the layer before which ones to read.
    """
    decoder, read = scene.model.decoder, read_lengths(scene, plan)
    growth = steps * (steps + 1) // 2
    macs = sum(layer_macs(decoder, steps, steps * length + growth) for length in read)
    chosen = [layer for layer, length in enumerate(cache_lengths(scene, plan)) if read[layer] < length]
    if chosen:
        asked = cache_lengths(scene, plan)[chosen[0] - 1]
        macs += decoder.query_width * (steps * (decoder.width + asked) + growth)
    return macs


def head_macs(decoder: DecoderShape, positions: int) -> int:
    return positions * decoder.width * decoder.vocab


def projected_tokens(scene: Scene, plan: Plan) -> int:
    """Rows that go through the projector: every patch of every tile, unless the policy chose before it."""
    if plan.projected is not None:
        return plan.projected
    layout, vision = scene.layout, scene.model.vision
    if is_native(vision):
        return layout.patches
    class_tokens = sum(block.newline == "start" for block in layout.blocks)
    return layout.tower_passes * vision.patches + class_tokens


def projector_macs(scene: Scene, plan: Plan) -> int:
    return projected_tokens(scene, plan) * sum(inputs * outputs for inputs, outputs in scene.model.projector)


def is_native(vision: VisionShape) -> bool:
    """Whether pictures pass the tower whole, at their own resolution, instead of as square tiles."""
    return vision.kind in ("qwen2vl", "qwen2.5vl")


def tower_lengths(vision: VisionShape, layout: VisualLayout) -> list[int]:
    """Tokens of each pass through the tower: square tiles, or whole pictures at native resolution."""
    if is_native(vision):
        return [block.patches * vision.merge_side**2 for block in layout.blocks]
    return [vision.tokens] * layout.tower_passes


def vision_macs(
    vision: VisionShape, layout: VisualLayout, tower: Sequence[int] | None = None, *, blocks: int | None = None
) -> int:
    """Patch embedding and the blocks that run. `tower`: patches per tile entering each block, when merging."""
    lengths = tower_lengths(vision, layout)
    patches = sum(lengths) - len(lengths) * int(vision.cls_token)
    embedding = patches * vision.patch_values * vision.width
    count = vision.layers_run if blocks is None else blocks
    if tower is not None:
        return embedding + len(lengths) * _merging_blocks_macs(vision, tower, count)
    linear = count * sum(lengths) * vision.block_parameters
    attended = sum(_attended(vision, layout, lengths, block) for block in range(count))
    return embedding + linear + 2 * vision.width * attended


def _attended(vision: VisionShape, layout: VisualLayout, lengths: Sequence[int], block: int) -> int:
    if not vision.window_px or block in vision.full_attention_blocks:
        return sum(pairs(length, length) for length in lengths)
    return sum(size**2 for part in layout.blocks for size in window_sizes(vision, part))


def window_sizes(vision: VisionShape, block: Block) -> Iterator[int]:
    """Patches in each attention window of a picture; those at its right and lower edge may be smaller."""
    side = vision.window_px // vision.patch_px // vision.merge_side
    heights = [min(side, block.rows - top) for top in range(0, block.rows, side)]
    widths = [min(side, block.cols - left) for left in range(0, block.cols, side)]
    return (height * width * vision.merge_side**2 for height in heights for width in widths)


def _merging_blocks_macs(vision: VisionShape, tower: Sequence[int], count: int) -> int:
    """Blocks that merge between attention and feed-forward: the latter sees what enters the next block."""
    cls = int(vision.cls_token)
    total = 0
    for block in range(count):
        before = tower[block] + cls
        after = (tower[block + 1] if block + 1 < len(tower) else tower[block]) + cls
        total += before * 4 * vision.width**2 + 2 * vision.width * pairs(before, before)
        total += after * vision.ffn_matrices * vision.width * vision.ffn
    return total
