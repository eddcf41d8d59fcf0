"""Multiply–accumulates of looking into the vision tower, for one sample.

A class token's row needs its query, every token's key, and their product; without a class token
"attention received" needs every query too. Softmax and means are no matrix work.
"""

from __future__ import annotations

from tokprof.policies.base import Scene


def native(scene: Scene) -> bool:
    """Towers at the picture's own size make queries, keys and values with one matrix, whatever is asked."""
    return scene.model.tiling == "native"


def pass_lengths(scene: Scene) -> list[int]:
    """Tokens of each pass through the tower: square tiles, or whole pictures at their own size."""
    vision = scene.model.vision
    if native(scene):
        return [block.patches * vision.merge_side**2 for block in scene.layout.blocks]
    return [vision.tokens] * scene.layout.tower_passes


def class_row_macs(scene: Scene) -> int:
    width = scene.model.vision.width
    return sum(width**2 + length * width**2 + length * width for length in pass_lengths(scene))


def received_macs(scene: Scene) -> int:
    """In a block that attends to the whole picture."""
    width, matrices = scene.model.vision.width, 3 if native(scene) else 2
    return sum(matrices * length * width**2 + length**2 * width for length in pass_lengths(scene))


def saliency_macs(scene: Scene) -> int:
    return class_row_macs(scene) if scene.model.vision.cls_token else received_macs(scene)


def key_macs(scene: Scene) -> int:
    """Keys of the patches; the class token's is not needed."""
    vision, matrices = scene.model.vision, 3 if native(scene) else 1
    return sum(matrices * (length - int(vision.cls_token)) * vision.width**2 for length in pass_lengths(scene))


def projects_by_token(scene: Scene) -> bool:
    """Whether the projector can run on chosen tokens alone: one patch, one visual token."""
    return scene.model.tiling in ("single", "anyres")


def class_token_projection_macs(scene: Scene) -> int:
    """The class tokens' way into the decoder's space, where everything else has gone it already."""
    return scene.layout.tower_passes * sum(inputs * outputs for inputs, outputs in scene.model.projector)
