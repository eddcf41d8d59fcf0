"""Shapes of the papers' models, written down by hand from their tables, not taken from the catalog."""

from __future__ import annotations

from tokprof.policies.base import Plan, Scene
from tokprof.shapes import Block, DecoderShape, ModelShape, VisionShape, VisualLayout

CLIP = VisionShape(
    kind="clip", depth=24, layers_run=23, width=1024, ffn=4096, heads=16, image_px=336, patch_px=14, cls_token=True
)
VICUNA = DecoderShape(depth=32, width=4096, ffn=11008, heads=32, kv_heads=32, vocab=32000)
VICUNA_13B = DecoderShape(depth=40, width=5120, ffn=13824, heads=40, kv_heads=40, vocab=32000)
MOBILELLAMA = DecoderShape(depth=32, width=2560, ffn=6912, heads=32, kv_heads=32, vocab=32000, head_dim=80)
QWEN2 = DecoderShape(depth=28, width=3584, ffn=18944, heads=28, kv_heads=4, vocab=152064)


def llava(decoder: DecoderShape = VICUNA) -> ModelShape:
    projector = ((CLIP.width, decoder.width), (decoder.width, decoder.width))
    return ModelShape(
        name="by-hand", family="llava", decoder=decoder, vision=CLIP, projector=projector, tiling="single"
    )


def tiles(count: int, *, newlines: int = 0) -> VisualLayout:
    """Thumbnail and `count − 1` stitched tiles, with up to one newline token per row."""
    grid = Block(rows=24 * (count - 1), cols=24, side=24, tile_rows=count - 1, newline="row" if newlines else "none")
    blocks = (
        (Block(rows=24, cols=24, side=24, thumbnail=True), grid) if count > 1 else (Block(rows=24, cols=24, side=24),)
    )
    return VisualLayout(blocks)


def scene(model: ModelShape, layout: VisualLayout, text: int, batch: int = 1) -> Scene:
    return Scene(model=model, layout=layout, text=text, text_after=max(text - 5, 0), batch=batch)


def plan(*steps: tuple[int, int]) -> Plan:
    """(tokens, layers) one after another."""
    return Plan(layers=tuple(tokens for tokens, layers in steps for _ in range(layers)))
