"""Layouts against Hugging Face's own packing: not only how many tokens, but which patch each one is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel, image_size_to_num_patches
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from tokprof.errors import UnsupportedError, WorkloadError
from tokprof.layout import best_grid, image_layout, native_size, video_layout
from tokprof.models.catalog import find
from tokprof.shapes import ModelShape, VisualLayout

SIZES = [
    (640, 480),
    (640, 427),
    (427, 640),
    (672, 672),
    (1, 1),
    (336, 336),
    (1000, 333),
    (200, 1400),
    (37, 53),
    (2048, 1537),
]
NEXT = find("llava-next-7b").shape
ONEVISION = find("llava-onevision-7b").shape
QWEN = find("qwen2-vl-7b").shape


def config_of(shape: ModelShape) -> SimpleNamespace:
    vision = SimpleNamespace(image_size=shape.vision.image_px, patch_size=shape.vision.patch_px)
    return SimpleNamespace(vision_config=vision, image_grid_pinpoints=[list(grid) for grid in shape.grids_px])


def packed(shape: ModelShape, size: tuple[int, int]) -> torch.Tensor:
    """What Hugging Face makes of patches that carry their own number; newlines are -1."""
    model = SimpleNamespace(config=config_of(shape))
    height_first = (size[1], size[0])
    tiles = image_size_to_num_patches(height_first, model.config.image_grid_pinpoints, shape.vision.image_px)
    patches = torch.arange(tiles * shape.vision.patches, dtype=torch.float64).view(tiles, -1, 1)
    newline = torch.tensor([-1.0], dtype=torch.float64)
    if shape.max_tiles:
        features, _ = LlavaOnevisionModel.pack_image_features(model, [patches], [height_first], newline, "anyres_max_9")
    else:
        features, _ = LlavaNextModel.pack_image_features(model, [patches], [height_first], "default", newline)
    return features[0].flatten()


def numbers(layout: VisualLayout, patches: int) -> list[int]:
    columns = zip(layout.column("tile"), layout.column("patch"), strict=True)
    return [-1 if tile < 0 else tile * patches + patch for tile, patch in columns]


@pytest.mark.parametrize("size", SIZES)
def test_llava_next_tokens_are_hugging_faces_patches(size: tuple[int, int]) -> None:
    layout = image_layout(NEXT, [size])
    assert numbers(layout, NEXT.vision.patches) == packed(NEXT, size).long().tolist()


@pytest.mark.parametrize("size", SIZES)
def test_onevision_packs_as_many_tokens_and_newlines(size: tuple[int, int]) -> None:
    layout = image_layout(ONEVISION, [size])
    theirs = packed(ONEVISION, size)
    assert layout.count == len(theirs)
    assert [column < 0 for column in layout.column("col")] == (theirs == -1).tolist()
    if not any(block.resampled for block in layout.blocks):
        assert numbers(layout, ONEVISION.vision.patches) == theirs.long().tolist()


@pytest.mark.parametrize(
    ("size", "count"), [((640, 480), 2340), ((640, 427), 2144), ((427, 640), 2160), ((672, 672), 2928)]
)
def test_known_lengths(size: tuple[int, int], count: int) -> None:
    assert image_layout(NEXT, [size]).count == count


def test_the_fixed_grid_has_the_papers_constant() -> None:
    layout = image_layout(NEXT, [(640, 480), (30, 900)], "fixed")
    assert layout.image_counts == (2880, 2880)
    assert layout.newlines == 0
    with pytest.raises(UnsupportedError, match="tiles"):
        image_layout(find("llava-1.5-7b").shape, [(640, 480)], "fixed")


@pytest.mark.parametrize("size", SIZES)
def test_qwen_resizes_as_its_processor(size: tuple[int, int]) -> None:
    tall, wide = smart_resize(size[1], size[0], 28, QWEN.min_pixels, QWEN.max_pixels)
    assert native_size(QWEN, size) == (wide, tall)
    assert image_layout(QWEN, [size]).count == tall // 28 * wide // 28


def test_videos() -> None:
    onevision = video_layout(ONEVISION, 32, (640, 480))
    assert (onevision.count, onevision.newlines, onevision.column("col")[-1]) == (6273, 1, -1)
    video_llava = video_layout(find("video-llava-7b").shape, 8, (640, 480))
    assert (video_llava.count, video_llava.patches) == (8 * 257, 8 * 256)
    assert video_llava.column("col")[0] == video_llava.column("col")[257] == -1
    qwen = video_layout(QWEN, 5, (640, 480))
    assert len(qwen.blocks) == 3, "two frames make a step, and the last one is filled up"
    with pytest.raises(UnsupportedError, match="no videos"):
        video_layout(NEXT, 8, (640, 480))


def test_several_onevision_pictures_get_one_tile_each() -> None:
    layout = image_layout(ONEVISION, [(640, 480), (100, 900)])
    assert layout.image_counts == (730, 730)


def test_too_narrow_pictures_are_refused() -> None:
    with pytest.raises(WorkloadError, match="too narrow"):
        image_layout(QWEN, [(2000, 4)])
    with pytest.raises(WorkloadError, match="too narrow"):
        image_layout(NEXT, [(5000, 1)])


def test_the_first_of_equally_good_grids_wins() -> None:
    assert best_grid((100, 100), ((200, 200), (200, 100), (100, 200))) == (200, 100)
