from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from tokprof import policies
from tokprof.choices import choices
from tokprof.layout import image_layout, smaller, video_layout
from tokprof.models import catalog, load
from tokprof.models.adapter import Adapter
from tokprof.recipe import Workload
from tokprof.show import Stage, as_seen, greyed, sheet, token_boxes


@pytest.fixture(scope="module")
def demo() -> Iterator[Adapter]:
    yield load("demo", weights="auto", device="cpu", dtype=torch.float32, attention="sdpa", seed=0)


def coloured(size: tuple[int, int]) -> Image.Image:
    """No pixel is grey."""
    picture = Image.new("RGB", size)
    picture.putdata([(200 + x % 50, 20 + y % 60, 90) for y in range(size[1]) for x in range(size[0])])
    return picture


SIZES = [(640, 480), (480, 640), (672, 672), (333, 777), (901, 250)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["llava-next-7b", "demo", "llava-onevision-7b", "qwen2-vl-7b"])
def test_the_patches_of_a_block_tile_the_picture(name: str, size: tuple[int, int]) -> None:
    shape = catalog.find(name).shape
    for block in image_layout(shape, [size]).blocks:
        covered = Image.new("L", size, 0)
        area = 0
        for box in token_boxes(block, size, shape):
            if box is not None:
                covered.paste(255, box)
                area += (box[2] - box[0]) * (box[3] - box[1])
        assert area == sum(value > 0 for value in covered.getdata())  # none overlap
        assert area >= 0.97 * size[0] * size[1]  # at most a row that rounding cut off with the padding


def test_a_centre_crop_sees_the_middle_square_only() -> None:
    shape = catalog.find("llava-1.5-7b").shape
    (block,) = image_layout(shape, [(640, 480)]).blocks
    boxes = token_boxes(block, (640, 480), shape)
    assert boxes[0] == (80, 0, 100, 20) and boxes[-1] == (540, 460, 560, 480)


def test_newlines_have_no_rectangle() -> None:
    shape = catalog.find("llava-next-7b").shape
    grid = image_layout(shape, [(640, 480)]).blocks[1]
    boxes = token_boxes(grid, (640, 480), shape)
    assert sum(box is None for box in boxes) == grid.rows and boxes[grid.cols] is None


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("size", [(640, 480), (300, 700)])
def test_the_model_sees_a_patch_where_its_rectangle_is(
    demo: Adapter, size: tuple[int, int], scale: float, tmp_path: Path
) -> None:
    """One patch painted white on black: of all that the processor hands the tower, that patch is the brightest."""
    seen_size = smaller(demo.shape, size, scale) if scale < 1 else size
    layout = image_layout(demo.shape, [seen_size])
    tiles, patches, start = layout.column("tile"), layout.column("patch"), 0
    side, pixels = demo.shape.vision.side, demo.shape.vision.patch_px
    for block in layout.blocks:
        boxes = token_boxes(block, size, demo.shape, seen_size)
        for token in range(3, block.count, 97):
            box = boxes[token]
            if box is None:
                continue
            picture = Image.new("RGB", size)
            picture.paste((255, 255, 255), box)
            path = tmp_path / "patch.png"
            picture.save(path)
            prepared = demo.prepare(Workload(images=(str(path),), scale=scale))  # type: ignore[call-arg]
            seen = demo.tiles(prepared).mean(dim=1)  # type: ignore[attr-defined]
            seen = seen.unflatten(1, (side, pixels)).unflatten(3, (side, pixels)).mean(dim=(2, 4)).flatten(1)
            tile = tiles[start + token]
            assert int(seen[tile].argmax()) == patches[start + token], (block, token)
        start += block.count


def test_a_shrunk_picture_is_drawn_as_coarse_as_the_model_got_it() -> None:
    """Every pixel inside a patch is one of the shrunk picture's, the patches are outlined where the boxes say."""
    shape, size = catalog.find("qwen2-vl-7b").shape, (640, 480)
    picture = coloured(size)
    given = picture.resize(smaller(shape, size, 0.5))
    (block,) = image_layout(shape, [given.size]).blocks
    boxes = token_boxes(block, size, shape, given.size)
    drawn = as_seen(picture, given, boxes)
    colours = set(given.getdata())
    for box in boxes:
        assert box is not None
        left, top, right, bottom = box
        assert set(drawn.crop((left + 1, top + 1, right - 1, bottom - 1)).getdata()) <= colours
        edge = (drawn.crop((left, top, right, top + 1)), drawn.crop((left, bottom - 1, right, bottom)))
        assert all(set(line.getdata()) == {(255, 255, 255)} for line in edge)
    assert as_seen(picture, picture, boxes) is picture


def test_grey_is_where_the_indices_say_to_the_pixel() -> None:
    shape, size = catalog.find("llava-next-7b").shape, (640, 480)
    grid = image_layout(shape, [size]).blocks[1]
    boxes, kept = token_boxes(grid, size, shape), {0, 7, 500, 1000}
    picture = coloured(size)
    drawn = greyed(picture, boxes, kept)
    for token, box in enumerate(boxes):
        if box is None:
            continue
        inside, before = drawn.crop(box), picture.crop(box)
        if token in kept:
            assert inside.tobytes() == before.tobytes()
        else:
            assert all(red == green == blue for red, green, blue in inside.getdata())


def test_the_marked_patch_is_framed_from_outside() -> None:
    shape, size = catalog.find("llava-next-7b").shape, (640, 480)
    grid = image_layout(shape, [size]).blocks[1]
    boxes = token_boxes(grid, size, shape)
    picture = coloured(size)
    drawn = greyed(picture, boxes, {200}, marked=200)
    box = boxes[200]
    assert box is not None
    assert drawn.crop(box).tobytes() == picture.crop(box).tobytes()
    assert drawn.getpixel((box[0] - 1, box[1])) == (213, 30, 30)


def test_a_sheet_has_a_row_per_stage_and_some_frames_of_a_video() -> None:
    shape = catalog.find("llava-onevision-7b").shape
    layout = video_layout(shape, 12, (64, 48))
    pictures = [coloured((64, 48))] * 12
    one = sheet(pictures, layout, shape, [Stage("a", range(10))], "title")
    two = sheet(pictures, layout, shape, [Stage("a", range(10)), Stage("b", ())], "title", "an answer")
    assert two.width == one.width and two.height > 1.7 * (one.height - 60)


@pytest.mark.parametrize("name", ["todre", "fastv", "v2drop", "hidivdrop", "visionzip", "globalcom2", "dense", "tome"])
def test_what_is_drawn_is_what_the_engine_kept(demo: Adapter, name: str) -> None:
    from tokprof.engine.request import run_request
    from tokprof.measure.clock import NoClock

    picture = Path(__file__).parents[1] / "tokprof" / "pictures" / "harbour.png"
    prepared = demo.prepare(Workload(images=(str(picture),)))  # type: ignore[call-arg]
    policy = policies.build(name) if name == "dense" else policies.build(name, keep=0.25)
    found = choices(demo, policy, prepared, new_tokens=2)
    outcome = run_request(demo, policy, prepared, NoClock(), 2)
    last = found.stages[-1]
    extras = outcome.per_layer[-1] - len(last.kept)
    if name != "tome":  # whose tokens stand for no single patch
        assert 0 <= extras <= (20 if name == "visionzip" else 0)
    assert all(0 <= index < prepared.layout.count for stage in found.stages for index in stage.kept)
    if name == "todre":
        assert found.stages[0].marked is not None and found.stages[0].marked in found.stages[0].kept
        assert prepared.layout.blocks[0].thumbnail and found.stages[0].marked < prepared.layout.blocks[0].count


def test_the_command_writes_one_picture_per_method(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from tokprof.cli import build_app

    photo = tmp_path / "photo.png"
    drawing = Image.new("RGB", (200, 120), "teal")
    ImageDraw.Draw(drawing).ellipse((40, 20, 120, 100), fill="orange")
    drawing.save(photo)
    words = [
        "show",
        "--image",
        str(photo),
        "--method",
        "todre,fastv,downsample",
        "--keep",
        "0.1",
        "-o",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(build_app(), words)
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["downsample_keep=0.1.png", "fastv_keep=0.1.png", "todre_keep=0.1.png"]
    assert Image.open(tmp_path / "out" / names[0]).width > 300


def test_a_method_that_compresses_in_the_decoder_is_shown_too(demo: Adapter) -> None:
    prepared = demo.prepare(Workload())  # type: ignore[call-arg]
    assert choices(demo, policies.build("voco_llama"), prepared, new_tokens=2).stages


@pytest.mark.parametrize("newlines", ["keep", "candidates"])
def test_the_pivot_is_the_one_that_the_method_began_with(demo: Adapter, newlines: str) -> None:
    """k-center keeps its pivot, so with room for one token that token is the pivot, wherever newlines lie."""
    prepared = demo.prepare(Workload())  # type: ignore[call-arg]
    one = policies.build("todre", keep=1.01 / prepared.layout.patches, newlines=newlines, stages="1")
    stage = choices(demo, one, prepared, new_tokens=1).stages[0]
    fixed = set(prepared.newlines.tolist()) if newlines == "keep" else set()
    assert set(stage.kept) - fixed == {stage.marked}


def test_tokens_that_stand_for_no_patch_are_counted_apart(demo: Adapter) -> None:
    prepared = demo.prepare(Workload())  # type: ignore[call-arg]
    stage = choices(demo, policies.build("visionzip", keep=0.25), prepared, new_tokens=1).stages[0]
    assert stage.title.startswith("before the decoder: ") and stage.title.endswith("merged")
