"""The geometry of a tower that runs at a picture's own size, from the layout's integers alone. No torch.

Patches lie in groups that later merge (2x2), groups in raster order, pictures and frames behind each
other. With windowed attention (Qwen2.5-VL) the groups are reordered window by window for the tower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from tokprof.shapes import Block, VisionShape, VisualLayout


def patch_places(layout: VisualLayout, merge: int) -> tuple[list[int], list[int]]:
    """Row and column of every patch of one sample."""
    places = [place for block in layout.blocks for place in _grouped(block, merge)]
    return [row for row, _ in places], [col for _, col in places]


def _grouped(block: Block, merge: int) -> Iterator[tuple[int, int]]:
    for row in range(block.rows):
        for col in range(block.cols):
            for down in range(merge):
                for right in range(merge):
                    yield row * merge + down, col * merge + right


def segments(layout: VisualLayout, merge: int) -> list[int]:
    """Patches that attend to each other where nothing is windowed: each picture, each step of a video."""
    return [block.patches * merge**2 for block in layout.blocks]


@lru_cache(maxsize=8)
def windows(layout: VisualLayout, vision: VisionShape) -> tuple[list[int], list[int]]:
    """(the group at each place of the window order, patches per window) of one sample."""
    side = vision.window_px // vision.merge_side // vision.patch_px
    order: list[int] = []
    lengths: list[int] = []
    first = 0
    for block in layout.blocks:
        for top in range(0, block.rows, side):
            for left in range(0, block.cols, side):
                rows = range(top, min(top + side, block.rows))
                cols = range(left, min(left + side, block.cols))
                order += [first + row * block.cols + col for row in rows for col in cols]
                lengths.append(len(rows) * len(cols) * vision.merge_side**2)
        first += block.patches
    return order, lengths


def rotary_ids(
    ids: Sequence[int], placeholder: int, layout: VisualLayout, seconds_step: int
) -> tuple[list[list[int]], int]:
    """M-RoPE (arXiv 2409.12191, §2.1): time, height and width of every token, and the first generated token's id.

    Text counts on in all three; a picture's tokens share one time; each step of a video is
    `seconds_step` later. Text behind a picture goes on from its longer side.
    """
    images = _blocks_by_image(layout)
    time: list[int] = []
    height: list[int] = []
    width: list[int] = []
    now, index = 0, 0
    while index < len(ids):
        if ids[index] != placeholder:
            for axis in (time, height, width):
                axis.append(now)
            now, index = now + 1, index + 1
            continue
        blocks = next(images)
        for step, block in enumerate(blocks):
            for row, col in block.tokens():
                time.append(now + step * seconds_step)
                height.append(now + row)
                width.append(now + col)
        index += sum(block.count for block in blocks)
        now += max(blocks[0].rows, blocks[0].cols)
    return [time, height, width], max(max(time), max(height), max(width)) + 1


def _blocks_by_image(layout: VisualLayout) -> Iterator[list[Block]]:
    for image in range(layout.images):
        yield [block for block in layout.blocks if block.image == image]
