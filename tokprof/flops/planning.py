"""From a model's name and a few numbers to the scenes that are counted: no torch, no pixels, no pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, isqrt
from typing import Any

from tokprof import policies
from tokprof.errors import ParameterError, UnsupportedError
from tokprof.fit import check_fit
from tokprof.flops.analytic import Head, Request, request
from tokprof.flops.work import Causal, is_native
from tokprof.layout import Size, image_layout, smaller, video_layout
from tokprof.models.catalog import Entry
from tokprof.models.prompts import estimated_text
from tokprof.policies.base import Policy, Scene
from tokprof.shapes import Block, ModelShape, VisualLayout

FRAME_SIZE = (640, 480)
BOUNDS = {
    "visual": (1, 1_000_000),
    "frames": (1, 10_000),
    "text": (0, 1_000_000),
    "batch": (1, 1_000_000),
    "new_tokens": (1, 1_000_000),
}
"""Far beyond any model's context, and still counted in seconds."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a request holds. One of `size`, `frames` and `visual` says how many visual tokens it has."""

    size: Size | None = None
    frames: int | None = None
    visual: int | None = None
    text: int = 64
    batch: int = 1
    new_tokens: int = 20

    def __post_init__(self) -> None:
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                flag = name.replace("_", "-")
                raise ParameterError(f"--{flag} {value}", f"a whole number from {low} to {high:,}")
        if self.visual is not None and (self.size or self.frames):
            raise ParameterError(
                "--visual and --image-size or --frames all say how many visual tokens there are", "give one of them"
            )


def scene_of(entry: Entry, prompt: Prompt, scale: float = 1.0) -> Scene:
    """`scale`: of the pictures' sides, for methods that shrink them first."""
    layout = _layout(entry, prompt, scale)
    before = min(estimated_text(entry.template, layout.images, "")[0], max(prompt.text - 1, 0))
    return Scene(
        model=entry.shape,
        layout=layout,
        text=prompt.text,
        text_after=prompt.text - before,
        batch=prompt.batch,
        visual=layout.patches,
        fixed=layout.newlines,
    )


def _layout(entry: Entry, prompt: Prompt, scale: float) -> VisualLayout:
    shape = entry.shape
    if prompt.visual is not None:
        if scale != 1.0:
            raise UnsupportedError("a method that shrinks pictures needs to know their size", "give --image-size")
        return layout_of(shape, prompt.visual)
    size = prompt.size or (FRAME_SIZE if prompt.frames else entry.picture)
    video = bool(prompt.frames) or not shape.images or shape.tiling == "video-frames"
    if scale < 1:
        size = smaller(shape, size, scale, video=video)
    if video:
        return video_layout(shape, prompt.frames or shape.default_frames, size)
    return image_layout(shape, [size])


def layout_of(shape: ModelShape, visual: int) -> VisualLayout:
    """Some layout with so many tokens and as few passes of the tower as they need."""
    if shape.tiling == "anyres":
        fixed = image_layout(shape, [(1, 1)], "fixed")
        if fixed.count == visual:
            return fixed
    if is_native(shape.vision):
        return VisualLayout((_rectangle(visual, 1, visual),))
    patches, side = shape.vision.patches, shape.vision.side
    first = min(visual, patches)
    blocks = [_rectangle(first, 1, side)]
    if visual > patches:
        blocks.append(_rectangle(visual - patches, ceil((visual - patches) / patches), side))
    return VisualLayout(tuple(blocks))


def _rectangle(tokens: int, tiles: int, side: int) -> Block:
    """As near to a square as the number allows."""
    rows = next(rows for rows in range(isqrt(tokens), 0, -1) if tokens % rows == 0)
    resampled = tokens != tiles * side**2
    return Block(rows=rows, cols=tokens // rows, side=side, tile_cols=tiles, resampled=resampled)


@dataclass(frozen=True)
class Case:
    """A method with its parameters on a prompt. `least`: the same where data decides that the fewest tokens stay."""

    policy: Policy
    asked: Request
    least: Request | None = None

    @property
    def bounds(self) -> tuple[Request, Request]:
        """The fewest and the most tokens that may stay; the same request where the plan decides."""
        return self.least or self.asked, self.asked

    @property
    def label(self) -> str:
        settings = self.policy.settings()
        if not self.policy.identity:
            settings.setdefault("keep", self.policy.keep)
        shown = ", ".join(f"{name}={_short(value)}" for name, value in sorted(settings.items(), key=_keep_first))
        return f"{self.policy.name} {shown}".strip()


def _keep_first(item: tuple[str, Any]) -> tuple[bool, str]:
    return item[0] != "keep", item[0]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "/".join(map(_short, value)) if isinstance(value, tuple) else str(value)


def dense(entry: Entry, prompt: Prompt, *, causal: Causal, head: Head) -> Case:
    policy = policies.build("dense")
    return Case(policy, request(policy, scene_of(entry, prompt), prompt.new_tokens, causal=causal, head=head))


def case(entry: Entry, name: str, parameters: Mapping[str, Any], prompt: Prompt, *, causal: Causal, head: Head) -> Case:
    """A method on a prompt, refused where it makes no sense."""
    policy = policies.build(name, **parameters).on(entry.shape)
    scene = scene_of(entry, prompt)
    check_fit(policy, scene)
    scale = 1.0 if policy.identity else policy.image_scale(scene)
    if scale != 1.0:
        scene = scene_of(entry, prompt, scale)
    asked = request(policy, scene, prompt.new_tokens, causal=causal, head=head)
    if asked.plan.least is None:
        return Case(policy, asked)
    fewest = replace(asked.plan, layers=asked.plan.least, least=None)
    return Case(policy, asked, replace(asked, plan=fewest))
