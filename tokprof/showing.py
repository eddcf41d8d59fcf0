"""From a model and methods to overlay pictures on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tokprof.choices import choices
from tokprof.errors import InputError
from tokprof.resolve import Ready, scaled
from tokprof.show import sheet
from tokprof.workload import request_of


def draw_all(cells: Sequence[Ready], folder: Path) -> Iterator[tuple[Path, str]]:
    """Each picture as soon as it is drawn, with the answer where the weights can give one."""
    import torch

    from tokprof.models import load

    first = cells[0]
    setting, workload = first.cell.setting, first.cell.workload
    adapter = load(
        first.cell.model,
        weights=setting.weights,
        device=first.device,
        dtype=getattr(torch, first.dtype),
        attention=setting.attention,
        seed=workload.seed,
    )
    prepared = adapter.prepare(workload)
    pictures = request_of(workload, first.entry).samples[0]
    folder.mkdir(parents=True, exist_ok=True)
    for ready in cells:
        smaller = scaled(workload, ready.policy, ready.scene)
        shrunk = smaller is not workload
        asked = adapter.prepare(smaller) if shrunk else prepared
        seen = request_of(smaller, first.entry).samples[0] if shrunk else pictures
        found = choices(adapter, ready.policy, asked)
        given = "_".join(f"{name}={value}" for name, value in ready.cell.method.parameters.items())
        name = f"{ready.policy.name}_{given}".replace("/", "-").rstrip("_")
        title = f"{ready.policy.name} {given.replace('_', ', ')} · {adapter.shape.name}, {adapter.weights}"
        if shrunk:
            title += f" · shrunk to {seen[0].width} by {seen[0].height} pixels, else {prepared.layout.count} tokens"
        drawn = sheet(pictures, asked.layout, adapter.shape, found.stages, title, found.answer, seen)
        path = folder / f"{name}.png"
        try:
            drawn.save(path)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}", "choose another folder with -o") from error
        yield path, found.answer
