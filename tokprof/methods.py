"""What the methods declare about themselves, and what works on which family. No torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tokprof import policies
from tokprof.fit import refusal
from tokprof.layout import image_layout, video_layout
from tokprof.models.catalog import Entry, entries
from tokprof.policies.base import Policy, Scene
from tokprof.shapes import VisualLayout

TEXT, TEXT_AFTER = 64, 32  # a prompt; no method's fit depends on it
WORKS = ""


@dataclass(frozen=True, kw_only=True)
class MethodFacts:
    """A method with its parameters at their defaults."""

    name: str
    acts: str
    keep: float
    needs: tuple[str, ...]
    optional: tuple[str, ...]
    parameters: Mapping[str, Any]
    data_decided: bool
    training_based: bool
    paper: str
    summary: str
    description: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def facts(name: str) -> MethodFacts:
    found = policies.find(name)
    policy = found()
    return MethodFacts(
        name=policy.name,
        acts=policy.acts,
        keep=policy.keep,
        needs=tuple(sorted(need.name for need in policy.needs)),
        optional=tuple(sorted(need.name for need in policy.optional)),
        parameters=policy.parameters(),
        data_decided=policy.data_decided,
        training_based=policy.training_based,
        paper=policy.paper,
        summary=_first_line(inspect.getmodule(found)),
        description=_unwrapped(inspect.getdoc(found) or ""),
    )


def _first_line(documented: Any) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def _unwrapped(text: str) -> str:
    """Paragraphs as one line each."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


@dataclass(frozen=True)
class Fit:
    """Why a method does not work on a family's pictures or videos; empty where it does, None without such input."""

    pictures: str | None
    video: str | None

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(reason for reason in (self.pictures, self.video) if reason))

    @property
    def verdict(self) -> str:
        if not self.reasons:
            return "yes"
        return "pictures" if self.pictures == WORKS else "video" if self.video == WORKS else "no"


def families() -> dict[str, Entry]:
    """The first model of each family, under its name without size."""
    first: dict[str, Entry] = {}
    for entry in entries():
        first.setdefault(entry.shape.family, entry)
    return {entry.name.rpartition("-")[0] or entry.name: entry for entry in first.values()}


def matrix(names: list[str]) -> dict[str, dict[str, Fit]]:
    """Method → family → whether it works there, at default parameters on the default picture and video."""
    scenes = {family: _scenes(entry) for family, entry in families().items()}
    return {
        name: {
            family: _fit(policies.build(name).on(pictures.model), pictures, video)
            for family, (pictures, video) in scenes.items()
        }
        for name in names
    }


def _scenes(entry: Entry) -> tuple[Scene, Scene | None]:
    shape = entry.shape

    def scene(layout: VisualLayout) -> Scene:
        return Scene(model=shape, layout=layout, text=TEXT, text_after=TEXT_AFTER)

    pictures = scene(image_layout(shape, [entry.picture]))
    return pictures, scene(video_layout(shape, shape.default_frames, entry.picture)) if shape.videos else None


def _fit(policy: Policy, pictures: Scene, video: Scene | None) -> Fit:
    return Fit(refusal(policy, pictures), None if video is None else refusal(policy, video))
