"""How pictures and frames become visual tokens: sizes in, `VisualLayout` out. No torch.

One function per way of tiling. The counts equal the lengths of Hugging Face's own packed features:
LLaVA-1.5 (one square tile), LLaVA-NeXT (thumbnail, tiles, `spatial_unpad`, a newline per row),
LLaVA-OneVision (the same with `anyres_max_9`; videos pooled, one newline at the very end),
Qwen2-VL (native resolution, 2x2 patches merged) and Video-LLaVA (a class token before each frame).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from tokprof.errors import UnsupportedError, WorkloadError
from tokprof.shapes import Block, ModelShape, VisionShape, VisualLayout

Size = tuple[int, int]
"""(width, height), as pictures are spoken of."""

FIXED_TILES = 2  # `anyres="fixed"`: the papers' 2x2 grid
LONGEST_RATIO = 200  # Qwen's own limit
VIDEO_FRAME_TOKENS = (128, 768)  # Qwen resizes video frames to between so many tokens


def image_layout(
    shape: ModelShape, sizes: Sequence[Size], anyres: Literal["native", "fixed"] = "native"
) -> VisualLayout:
    """The visual tokens of one prompt with these pictures, in order."""
    if not shape.images:
        raise UnsupportedError(f"{shape.name} takes no pictures", "give it a video")
    if anyres == "fixed" and shape.tiling not in ("anyres", "anyres-max"):
        raise UnsupportedError(f"{shape.name} does not cut pictures into tiles", "leave out --anyres fixed")
    blocks: list[Block] = []
    for image, size in enumerate(sizes):
        if anyres == "fixed":
            blocks += _fixed(shape.vision, image)
        elif shape.tiling == "native":
            blocks.append(_native(shape, size, image))
        elif shape.tiling == "anyres":
            blocks += _anyres(shape, size, image)
        elif shape.tiling == "anyres-max":
            blocks += _anyres(shape, size, image) if len(sizes) == 1 else [_whole(shape.vision, image, "end")]
        else:
            blocks.append(_whole(shape.vision, image))
    return VisualLayout(tuple(blocks))


def video_layout(shape: ModelShape, frames: int, size: Size) -> VisualLayout:
    """The visual tokens of one video of equally large frames."""
    if not shape.videos:
        raise UnsupportedError(f"{shape.name} takes no videos", "give it pictures, or choose a model for videos")
    if shape.tiling == "native":
        return VisualLayout(tuple(_native_video(shape, frames, size)))
    side = shape.vision.side
    pooled = math.ceil(side / shape.video_pool)
    last: Literal["none", "end", "start"] = "start" if shape.tiling == "video-frames" else "none"
    blocks = [
        Block(rows=pooled, cols=pooled, side=side, frame=frame, newline=last, resampled=shape.video_pool > 1)
        for frame in range(frames)
    ]
    if shape.video_pool > 1:
        blocks[-1] = Block(rows=pooled, cols=pooled, side=side, frame=frames - 1, newline="end", resampled=True)
    return VisualLayout(tuple(blocks))


def best_grid(size: Size, grids_px: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The any-resolution grid (height, width) that keeps most of the picture and wastes least."""
    width, height = size

    def fitness(grid: tuple[int, int]) -> tuple[int, int]:
        scale = min(grid[1] / width, grid[0] / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        return effective, effective - grid[0] * grid[1]

    return max(grids_px, key=fitness)


def fitted_size(size: Size, factor: int, least: int, most: int) -> Size:
    """Qwen's resize: sides divisible by `factor`, an area between `least` and `most`, the ratio kept."""
    width, height = size
    if max(size) > LONGEST_RATIO * min(size):
        raise WorkloadError(
            f"a picture of {width}×{height} is too narrow for this model", f"keep the sides within 1:{LONGEST_RATIO}"
        )
    tall, wide = round(height / factor) * factor, round(width / factor) * factor
    if tall * wide > most:
        shrink = math.sqrt(height * width / most)
        tall = max(factor, math.floor(height / shrink / factor) * factor)
        wide = max(factor, math.floor(width / shrink / factor) * factor)
    elif tall * wide < least:
        grow = math.sqrt(least / (height * width))
        tall, wide = math.ceil(height * grow / factor) * factor, math.ceil(width * grow / factor) * factor
    return wide, tall


def native_size(shape: ModelShape, size: Size, *, video: bool = False) -> Size:
    """The size in pixels to which a native-resolution model resizes a picture or a frame."""
    factor = shape.vision.patch_px * shape.vision.merge_side
    least, most = shape.min_pixels, shape.max_pixels
    if video:
        most = min(VIDEO_FRAME_TOKENS[1] * factor**2, most)
        least = min(VIDEO_FRAME_TOKENS[0] * factor**2, most)
    return fitted_size(size, factor, least, most)


def smaller(shape: ModelShape, size: Size, scale: float, *, video: bool = False) -> Size:
    """A picture shrunk by `scale` of what the model sees of it: pixels that it would throw away do not count."""
    width, height = size
    if shape.tiling == "native":
        seen_width, seen_height = native_size(shape, size, video=video)
        scale *= min(1.0, seen_width / width, seen_height / height)
    elif shape.grids_px and not video:
        grid_height, grid_width = best_grid(size, shape.grids_px)
        seen = min(1.0, grid_width / width, grid_height / height)
        if shape.max_tiles:
            seen = min(seen, shape.vision.image_px * math.sqrt(shape.max_tiles / (width * height)))
        scale *= seen
    return max(1, round(width * scale)), max(1, round(height * scale))


def _whole(
    vision: VisionShape, image: int, newline: Literal["none", "end"] = "none", *, thumbnail: bool = False
) -> Block:
    return Block(
        rows=vision.side, cols=vision.side, side=vision.side, image=image, newline=newline, thumbnail=thumbnail
    )


def _fixed(vision: VisionShape, image: int) -> list[Block]:
    side = FIXED_TILES * vision.side
    grid = Block(rows=side, cols=side, side=vision.side, image=image, tile_rows=FIXED_TILES, tile_cols=FIXED_TILES)
    return [_whole(vision, image, thumbnail=True), grid]


def _anyres(shape: ModelShape, size: Size, image: int) -> list[Block]:
    """Thumbnail and stitched tiles; padding that the picture's ratio left is cut away."""
    vision = shape.vision
    grid_height, grid_width = best_grid(size, shape.grids_px)
    tile_rows, tile_cols = grid_height // vision.image_px, grid_width // vision.image_px
    rows, cols = tile_rows * vision.side, tile_cols * vision.side
    width, height = size
    top = left = 0
    if width / height > cols / rows:
        top = (rows - int(round(height * (cols / width), 7))) // 2
    else:
        left = (cols - int(round(width * (rows / height), 7))) // 2
    rows, cols, resampled = rows - 2 * top, cols - 2 * left, False
    if not rows or not cols:
        raise WorkloadError(f"a picture of {width}×{height} is too narrow for this model", "crop it")
    if shape.max_tiles:
        ratio = math.sqrt(rows * cols / (shape.max_tiles * vision.patches))
        if ratio > 1.1:
            rows, cols, resampled = int(rows // ratio), int(cols // ratio), True
    grid = Block(
        rows=rows,
        cols=cols,
        side=vision.side,
        image=image,
        tile_rows=tile_rows,
        tile_cols=tile_cols,
        top=top,
        left=left,
        newline="row",
        resampled=resampled,
    )
    return [_whole(vision, image, thumbnail=True), grid]


def _native(shape: ModelShape, size: Size, image: int, frame: int = 0, *, video: bool = False) -> Block:
    """One pass of the tower over the whole picture; a token is a merged group of patches."""
    wide, tall = native_size(shape, size, video=video)
    factor = shape.vision.patch_px * shape.vision.merge_side
    rows, cols = tall // factor, wide // factor
    return Block(rows=rows, cols=cols, side=max(rows, cols), image=image, frame=frame)


def _native_video(shape: ModelShape, frames: int, size: Size) -> list[Block]:
    steps = math.ceil(frames / shape.vision.temporal_patch)
    return [_native(shape, size, 0, frame, video=True) for frame in range(steps)]
