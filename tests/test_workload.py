"""Pictures, videos and prompts: what is accepted, what is said, and what bad files get."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from PIL import ImageChops, ImageStat

from tokprof.errors import UnsupportedError, WorkloadError
from tokprof.models.catalog import find
from tokprof.pictures import draw
from tokprof.recipe import Workload
from tokprof.workload import BUNDLED, bundled_picture, evenly, moving, request_of, scene_of, synthetic_picture

LLAVA, NEXT, ONEVISION = (find(name) for name in ("llava-1.5-7b", "llava-next-7b", "llava-onevision-7b"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    synthetic_picture((64, 48), 0).save(path)
    return path


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    for index, frame in enumerate(moving(synthetic_picture((64, 48), 0), 6)):
        frame.save(folder / f"{index:02}.png")
    return folder


def test_bundled_pictures_are_what_the_script_draws() -> None:
    for name, size in BUNDLED.items():
        drawn = getattr(draw, name)()
        assert drawn.size == size
        difference = ImageStat.Stat(ImageChops.difference(drawn, bundled_picture(name)))
        assert max(difference.mean) < 1, "Pillow's versions may draw an edge differently, no more"
    assert sum(path.stat().st_size for path in draw.FOLDER.glob("*.png")) < 300_000


def test_the_default_request_suits_the_model() -> None:
    request = request_of(Workload(), NEXT)
    assert request.sizes == ((640, 480),)
    assert request.layout.count == 2340
    assert "bundled" in request.description
    assert request_of(Workload(), find("demo")).layout.count == 744
    video = request_of(Workload(), find("video-llava-7b"))
    assert video.video and len(video.samples[0]) == 8 and "made-up video" in video.description
    assert len({frame.tobytes() for frame in video.samples[0]}) == 8


def test_a_plan_knows_the_text_about(picture: Path) -> None:
    scene = scene_of(Workload(images=(str(picture),), batch=4), NEXT)
    assert (scene.batch, scene.text - scene.text_after) == (4, 35)
    assert scene.visual + scene.fixed == scene.layout.count


def test_batches(picture: Path) -> None:
    own = request_of(Workload(batch=3), NEXT)
    assert len({sample[0].tobytes() for sample in own.samples}) == 3
    assert "shifted" in own.description
    users = request_of(Workload(images=(str(picture),), batch=3), NEXT)
    assert len({sample[0].tobytes() for sample in users.samples}) == 1
    assert "the same in every sample" in users.description


def test_synthetic_pictures_follow_the_seed() -> None:
    assert synthetic_picture((50, 40), 1).tobytes() == synthetic_picture((50, 40), 1).tobytes()
    assert synthetic_picture((50, 40), 1).tobytes() != synthetic_picture((50, 40), 2).tobytes()
    assert request_of(Workload(image_size=(50, 40), image_count=2), NEXT).visuals == 2


def test_grey_transparent_and_turned_pictures(tmp_path: Path) -> None:
    PIL.Image.new("LA", (20, 10)).save(tmp_path / "grey.png")
    turned = PIL.Image.new("RGB", (20, 10))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    request = request_of(Workload(images=(str(tmp_path / "grey.png"), str(tmp_path / "turned.jpg"))), LLAVA)
    assert request.sizes == ((20, 10), (10, 20))
    assert {image.mode for image in request.pictures} == {"RGB"}


def broken(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"{kind}.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not a picture")
    elif kind == "cut":
        synthetic_picture((300, 300), 0).save(path)
        path.write_bytes(path.read_bytes()[:200])
    elif kind in ("large", "bomb"):
        PIL.Image.new("1", (10_000, 9_000) if kind == "large" else (20_000, 20_000)).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "there is no picture"),
        ("folder", "is a folder"),
        ("empty", "empty file"),
        ("text", "cannot be read"),
        ("cut", "cannot be read"),
        ("large", "enormous"),
        ("bomb", "enormous"),
    ],
)
def test_bad_pictures_are_refused_in_one_line(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(WorkloadError, match=words) as caught:
        request_of(Workload(images=(str(broken(tmp_path, kind)),)), NEXT)
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(WorkloadError, match="no pixels"):
        synthetic_picture((0, 10), 0)
    with pytest.raises(WorkloadError, match="enormous"):
        request_of(Workload(image_size=(100_000, 100_000)), NEXT)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(WorkloadError, match="prompt is empty"):
        request_of(Workload.model_construct(**{**Workload().model_dump(), "prompt": "  "}), NEXT)


def test_folders_of_frames(frames: Path) -> None:
    request = request_of(Workload(video=str(frames), frames=3), ONEVISION)
    assert len(request.samples[0]) == 3 and request.layout.count == 3 * 196 + 1
    assert len(request_of(Workload(video=str(frames)), ONEVISION).samples[0]) == 6
    with pytest.raises(WorkloadError, match="holds 6"):
        request_of(Workload(video=str(frames), frames=7), ONEVISION)
    with pytest.raises(UnsupportedError, match="no videos"):
        request_of(Workload(video=str(frames)), NEXT)
    synthetic_picture((32, 32), 0).save(frames / "99.png")
    with pytest.raises(WorkloadError, match="differ in size"):
        request_of(Workload(video=str(frames)), ONEVISION)


def test_bad_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"not a video")
    real_import = builtins.__import__

    def without_av(name: str, *rest: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_av)
    for path, words in (("none", "holds no pictures"), ("gone.mp4", "there is no video"), ("clip.mp4", "need PyAV")):
        with pytest.raises(WorkloadError, match=words) as caught:
            request_of(Workload(video=str(tmp_path / path)), ONEVISION)
        assert caught.value.hint


def test_frames_are_spread_evenly() -> None:
    assert evenly(10, 3) == [0, 3, 6]
    assert evenly(4, 4) == [0, 1, 2, 3]
