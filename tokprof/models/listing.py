"""What `tokprof models` tells about each model, from its shape alone. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tokprof.layout import image_layout, video_layout
from tokprof.models.catalog import Entry
from tokprof.shapes import ModelShape


@dataclass(frozen=True, kw_only=True)
class Line:
    """`tokens`, `video_tokens`: of the default picture and of the default number of frames, newlines included."""

    entry: Entry
    parameters: int
    tokens: int
    newlines: int
    video_tokens: int | None

    def as_json(self) -> dict[str, Any]:
        shape = asdict(self.entry.shape)
        return {
            "name": shape.pop("name"),
            "repository": self.entry.repository or None,
            "note": self.entry.note,
            "parameters": self.parameters,
            "default_picture": list(self.entry.picture),
            "visual_tokens": self.tokens,
            "newline_tokens": self.newlines,
            "video_tokens": self.video_tokens,
            **shape,
        }


def line(entry: Entry) -> Line:
    shape = entry.shape
    picture = image_layout(shape, [entry.picture])
    frames = shape.default_frames
    return Line(
        entry=entry,
        parameters=matrix_parameters(shape),
        tokens=picture.count,
        newlines=picture.newlines,
        video_tokens=video_layout(shape, frames, entry.picture).count if shape.videos else None,
    )


def matrix_parameters(shape: ModelShape) -> int:
    """Weights of all matrices; norms and biases, far below one in a hundred, are left out."""
    decoder, vision = shape.decoder, shape.vision
    embeddings = decoder.vocab * decoder.width * (1 if decoder.tied_head else 2)
    towers = 2 if shape.tiling == "video-frames" else 1  # one for pictures, one for frames
    tower = vision.depth * vision.block_parameters + vision.patch_values * vision.width
    projector = sum(inputs * outputs for inputs, outputs in shape.projector)
    return decoder.depth * decoder.layer_parameters + embeddings + towers * tower + projector
