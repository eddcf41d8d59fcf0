"""What the model is asked: the user's pictures or video, the bundled ones, or synthetic ones. No torch.

A `Request` holds the decoded pictures of every sample of a batch and says in words where they come
from. All that can be wrong with a user's files is answered here, before any weight is loaded.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tokprof.errors import UnsupportedError, WorkloadError
from tokprof.layout import Size, image_layout, smaller, video_layout
from tokprof.models.catalog import Entry
from tokprof.models.prompts import DEFAULT_PROMPT, estimated_text
from tokprof.policies.base import Scene
from tokprof.shapes import ModelShape, VisualLayout

if TYPE_CHECKING:
    from PIL.Image import Image

    from tokprof.recipe import Workload

MAX_PIXELS = 89_478_485  # Pillow's own limit against decompression bombs
BUNDLED: dict[str, Size] = {"harbour": (640, 480), "window": (480, 640), "table": (672, 672)}
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class Request:
    """Pictures (or one video's frames) and prompt of each sample: of one layout, and of equally many tokens."""

    samples: tuple[tuple[Image, ...], ...]
    video: bool
    prompts: tuple[str, ...]
    description: str
    layout: VisualLayout

    @property
    def prompt(self) -> str:
        return self.prompts[0]

    @property
    def visuals(self) -> int:
        """Placeholders in the prompt."""
        return 1 if self.video else len(self.samples[0])

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        pictures = self.samples[0][:1] if self.video else self.samples[0]
        return tuple(picture.size for picture in pictures)

    @property
    def pictures(self) -> list[Image]:
        """Of all samples, one behind the other."""
        return [picture for sample in self.samples for picture in sample]


def request_of(workload: Workload, entry: Entry) -> Request:
    """Everything that the processor needs, read and checked."""
    shape = entry.shape
    prompt = DEFAULT_PROMPT if workload.prompt is None else workload.prompt.strip()
    if not prompt:
        raise WorkloadError("the prompt is empty", 'give some words: --prompt "What is in the picture?"')
    if workload.images and (workload.video or workload.frames):
        raise WorkloadError("pictures and a video together", "give either --image or --video")
    video = bool(workload.video or workload.frames) or (shape.tiling == "video-frames" and not workload.images)
    if video and not shape.videos:
        raise UnsupportedError(f"{shape.name} takes no videos", "give it pictures, or choose a model for videos")
    pictures, description = _frames(workload, entry) if video else _pictures(workload, entry)
    if workload.scale < 1:
        pictures = [shrunk(picture, workload.scale, shape, video=video) for picture in pictures]
        description += f", scaled to {_sizes(pictures)}"
    layout = layout_of(shape, [picture.size for picture in pictures], video=video, anyres=workload.anyres)
    description += ", on the fixed 2×2 grid" if workload.anyres == "fixed" and not video else ""
    samples, repeated = _batch(pictures, workload)
    prompts = (prompt,) * len(samples)
    return Request(samples=samples, video=video, prompts=prompts, description=description + repeated, layout=layout)


def layout_of(
    shape: ModelShape, sizes: Sequence[Size], *, video: bool = False, anyres: Literal["native", "fixed"] = "native"
) -> VisualLayout:
    """Of a sample's pictures, or of a video's frames."""
    return video_layout(shape, len(sizes), sizes[0]) if video else image_layout(shape, sizes, anyres)


def scene_of(workload: Workload, entry: Entry) -> Scene:
    """The request in integers, for planning; the prompt's length is estimated."""
    request = request_of(workload, entry)
    before, after = estimated_text(entry.template, request.visuals, request.prompt)
    return scene(entry, request.layout, before, after, workload.batch)


def scene(entry: Entry, layout: VisualLayout, before: int, after: int, batch: int) -> Scene:
    return Scene(
        model=entry.shape,
        layout=layout,
        text=before + after,
        text_after=after,
        batch=batch,
        visual=layout.patches,
        fixed=layout.newlines,
    )


def _pictures(workload: Workload, entry: Entry) -> tuple[list[Image], str]:
    if workload.images:
        pictures = [open_picture(Path(path)) for path in workload.images]
        return pictures, f"{', '.join(Path(path).name for path in workload.images)} ({_sizes(pictures)})"
    count = workload.image_count
    if workload.image_size is not None:
        pictures = [synthetic_picture(workload.image_size, workload.seed + index) for index in range(count)]
        return pictures, f"{_counted(count, 'synthetic picture')} ({_sizes(pictures)}, seed {workload.seed})"
    order = sorted(BUNDLED, key=lambda name: BUNDLED[name] != entry.picture)
    pictures = [bundled_picture(order[index % len(order)]) for index in range(count)]
    return pictures, f"{_counted(count, 'bundled picture')} ({_sizes(pictures)})"


def _frames(workload: Workload, entry: Entry) -> tuple[list[Image], str]:
    wanted = workload.frames or entry.shape.default_frames
    if workload.video is not None:
        path = Path(workload.video)
        frames = (
            _folder_frames(path, wanted, workload.frames)
            if path.is_dir()
            else _file_frames(path, wanted, workload.frames)
        )
        return frames, f"{len(frames)} frames of {path.name} ({_sizes(frames[:1])})"
    size = workload.image_size or BUNDLED["harbour"]
    picture = synthetic_picture(size, workload.seed) if workload.image_size else bundled_picture("harbour")
    kind = "a synthetic" if workload.image_size else "the bundled"
    frames = moving(picture, wanted)
    return frames, f"a made-up video: {wanted} frames of {kind} picture with a moving object ({_sizes(frames[:1])})"


def _batch(pictures: Sequence[Image], workload: Workload) -> tuple[tuple[tuple[Image, ...], ...], str]:
    """The samples of a batch: our own pictures shifted sideways, the user's as they are."""
    if workload.batch == 1:
        return (tuple(pictures),), ""
    if workload.images or workload.video:
        return (tuple(pictures),) * workload.batch, ", the same in every sample"
    from PIL import ImageChops

    samples = [
        tuple(ImageChops.offset(picture, picture.width * index // workload.batch, 0) for picture in pictures)
        for index in range(workload.batch)
    ]
    return tuple(samples), ", shifted from sample to sample"


def open_picture(path: Path) -> Image:
    """A picture in RGB, turned as its camera says; whatever is wrong with it is said in one line."""
    from PIL import ImageOps

    with _decoding(path) as picture:
        turned = ImageOps.exif_transpose(picture)
        return turned.convert("RGB")


@contextmanager
def _decoding(path: Path) -> Iterator[Image]:
    import PIL.Image

    _check_file(path, "picture", "for a folder of frames there is --video")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(path) as picture:
                check_size(picture.size, f"picture {path}")
                yield picture
    except PIL.Image.DecompressionBombError as error:
        raise WorkloadError(f"the picture {path} is enormous", "scale it down first") from error
    except WorkloadError:
        raise
    except Exception as error:  # decoders raise all sorts of things on broken files
        raise WorkloadError(
            f"the picture {path} cannot be read: {error}", "is it a whole PNG, JPEG, WebP, GIF, BMP or TIFF?"
        ) from error


def _check_file(path: Path, what: str, folder_hint: str) -> None:
    if path.is_dir():
        raise WorkloadError(f"{path} is a folder, not a {what}", folder_hint)
    if not path.is_file():
        raise WorkloadError(f"there is no {what} {path}", "check the path")
    if path.stat().st_size == 0:
        raise WorkloadError(f"the {what} {path} is an empty file", f"give another {what}")


def check_size(size: Size, what: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise WorkloadError(f"the {what} has no pixels ({width}×{height})", "give one with a width and a height")
    if width * height > MAX_PIXELS:
        raise WorkloadError(
            f"the {what} is enormous ({width}×{height})", f"scale it down to at most {MAX_PIXELS:,} pixels"
        )


def shrunk(picture: Image, scale: float, shape: ModelShape, *, video: bool = False) -> Image:
    return picture.resize(smaller(shape, picture.size, scale, video=video))


def bundled_picture(name: str) -> Image:
    return open_picture(Path(__file__).parent / "pictures" / f"{name}.png")


def synthetic_picture(size: Size, seed: int) -> Image:
    """Rectangles of seeded places and colours before a plain background."""
    import PIL.Image
    from PIL import ImageDraw

    check_size(size, "synthetic picture")
    draw_number = random.Random(seed)
    width, height = size
    picture = PIL.Image.new("RGB", size, _colour(draw_number))
    draw = ImageDraw.Draw(picture)
    for _ in range(24):
        left, top = draw_number.randrange(width), draw_number.randrange(height)
        right, bottom = left + draw_number.randrange(1 + width // 4), top + draw_number.randrange(1 + height // 4)
        draw.rectangle((left, top, right, bottom), fill=_colour(draw_number))
    return picture


def _colour(draw_number: random.Random) -> tuple[int, int, int]:
    return draw_number.randrange(256), draw_number.randrange(256), draw_number.randrange(256)


def moving(picture: Image, frames: int) -> list[Image]:
    """A still picture across which a piece of itself travels: much is redundant, as in real videos."""
    width, height = picture.size
    piece = picture.crop((width // 3, height // 3, width // 3 + max(1, width // 4), height // 3 + max(1, height // 4)))
    shown = []
    for index in range(frames):
        frame = picture.copy()
        frame.paste(piece, ((width - piece.width) * index // max(1, frames - 1), height // 8))
        shown.append(frame)
    return shown


def _folder_frames(folder: Path, wanted: int, asked: int | None) -> list[Image]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES)
    if not files:
        raise WorkloadError(f"the folder {folder} holds no pictures", "put the video's frames there as PNG or JPEG")
    _enough(asked, len(files), folder)
    frames = [open_picture(files[index]) for index in evenly(len(files), min(wanted, len(files)))]
    if len({frame.size for frame in frames}) > 1:
        raise WorkloadError(f"the frames in {folder} differ in size ({_sizes(frames)})", "give frames of one size")
    return frames


def _file_frames(path: Path, wanted: int, asked: int | None) -> list[Image]:
    _check_file(path, "video", "")
    try:
        import av  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise WorkloadError(
            f"video files need PyAV to be read ({path})", 'pip install "tokprof[video]", or give a folder of frames'
        ) from error
    try:
        with av.open(str(path)) as container:
            total = sum(1 for _ in container.decode(video=0))
            _enough(asked, total, path)
            container.seek(0)
            chosen = set(evenly(total, min(wanted, total)))
            frames = [frame.to_image() for index, frame in enumerate(container.decode(video=0)) if index in chosen]
    except WorkloadError:
        raise
    except Exception as error:  # decoders raise all sorts of things on broken files
        raise WorkloadError(f"the video {path} cannot be read: {error}", "give a folder of frames") from error
    if not frames:
        raise WorkloadError(f"the video {path} has no frames", "give another video, or a folder of frames")
    return frames


def _enough(asked: int | None, there: int, path: Path) -> None:
    if asked is not None and asked > there:
        raise WorkloadError(f"{asked} frames asked for, but {path} holds {there}", f"use --frames {there} or fewer")


def evenly(total: int, wanted: int) -> list[int]:
    """`wanted` of `total` indices, evenly spread, the first included."""
    return [index * total // wanted for index in range(wanted)]


def _sizes(pictures: Sequence[Image]) -> str:
    return ", ".join(dict.fromkeys(f"{picture.width}×{picture.height}" for picture in pictures))


def _counted(count: int, what: str) -> str:
    return f"a {what}" if count == 1 else f"{count} {what}s"
