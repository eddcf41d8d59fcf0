"""Where a model's weights come from: a folder, the hub's cache, the hub, or a seeded draw.

safetensors only, never remote code. Drawn weights have the true shape and are made on the device,
in the run's dtype, by Hugging Face's own initialisation.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tokprof.errors import InputError, MachineError, TokprofError
from tokprof.models import hub
from tokprof.models.catalog import Entry, shape_in
from tokprof.models.drawn import config_of


@dataclass(frozen=True, kw_only=True)
class Loaded:
    entry: Entry
    model: nn.Module
    folder: Path | None  # where processor and tokenizer files are, if anywhere
    source: str
    trained: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wish:
    """`weights`: auto, random, hub, or a folder."""

    weights: str
    device: torch.device
    dtype: torch.dtype
    attention: str
    seed: int


def obtain(entry: Entry, model_class: Any, wish: Wish) -> Loaded:
    if wish.device.type == "meta" or wish.weights == "random":
        return _drawn(entry, model_class, wish, ())
    if wish.weights == "hub":
        if not entry.repository:
            raise InputError(f"{entry.name} has no repository on the hub", "use --weights random, or give a folder")
        return _read(entry, model_class, wish, hub.weights(entry.repository), entry.repository)
    if wish.weights != "auto":
        folder = Path(wish.weights).expanduser()
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}", "--weights takes auto, random, hub or a folder")
        own = replace(entry, shape=shape_in(folder, entry.name), folder=folder)
        if own.shape.family != entry.shape.family:
            raise InputError(
                f"{folder} holds a {own.shape.family}, but {entry.name} is a {entry.shape.family}",
                f"use --model {folder}",
            )
        return _read(own, model_class, wish, folder, str(folder))
    if entry.folder is not None:
        return _read(entry, model_class, wish, entry.folder, _spoken(entry.folder))
    if not entry.repository:
        return _drawn(entry, model_class, wish, (f"{entry.name}: {_RANDOM}",))
    try:
        folder = hub.weights(entry.repository)
    except InputError as error:
        return _drawn(entry, model_class, wish, (f"{error.message}: {_RANDOM}",))
    return _read(entry, model_class, wish, folder, entry.repository)


_RANDOM = (
    "random weights of the true shape are used; times, memory and FLOPs do not depend on the weights, "
    "what a method decides by the data does"
)


def _read(entry: Entry, model_class: Any, wish: Wish, folder: Path, source: str) -> Loaded:
    if not hub.has_weights(folder):
        raise InputError(
            f"{folder} lacks *.safetensors", "save the model with save_pretrained, or use --weights random"
        )
    try:
        with quiet():
            model, found = model_class.from_pretrained(
                folder,
                output_loading_info=True,
                dtype=wish.dtype,
                device_map={"": wish.device},
                attn_implementation=wish.attention,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
            )
    except torch.OutOfMemoryError as error:
        raise _too_large(entry) from error
    except Exception as error:  # whatever is wrong with a user's files
        raise InputError(f"{folder} cannot be loaded: {error}", "is the folder complete?") from error
    absent = [*found["missing_keys"], *found["mismatched_keys"]]
    if absent:
        raise InputError(
            f"{folder} lacks {len(absent)} of the model's weights, such as {absent[0]}", "is the folder complete?"
        )
    return Loaded(entry=entry, model=model, folder=folder, source=source, trained=_trained(folder))


def _spoken(folder: Path) -> str:
    """The bundled models are said to be such, and whether they were trained."""
    if not (folder / "provenance.json").is_file():
        return folder.name
    return f"bundled weights, {'trained' if _trained(folder) else 'random'}"


def _trained(folder: Path) -> bool:
    """Weights from a folder are trained unless the folder says otherwise."""
    provenance = folder / "provenance.json"
    return not provenance.is_file() or bool(json.loads(provenance.read_text(encoding="utf-8")).get("trained"))


def _drawn(entry: Entry, model_class: Any, wish: Wish, notes: tuple[str, ...]) -> Loaded:
    folder = entry.folder
    if folder is None and entry.repository:
        folder = hub.cached(entry.repository)
    config_class = model_class.config_class
    config = config_class.from_pretrained(entry.folder) if entry.folder else config_class(**_without_type(entry))
    devices = [wish.device] if wish.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), wish.device, quiet():
            torch.manual_seed(wish.seed)
            model = model_class._from_config(config, dtype=wish.dtype, attn_implementation=wish.attention)
    except torch.OutOfMemoryError as error:
        raise _too_large(entry) from error
    source = f"random weights (seed {wish.seed})"
    return Loaded(entry=entry, model=model, folder=folder, source=source, trained=False, notes=notes)


def _without_type(entry: Entry) -> dict[str, Any]:
    config = config_of(entry.shape)
    del config["model_type"]
    return config


def _too_large(entry: Entry) -> TokprofError:
    return MachineError(
        f"the weights of {entry.name} do not fit on the device", "choose a smaller model or --dtype bfloat16"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Hugging Face's advice (no torchvision, default processors …) is not for our users."""
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub", "accelerate")]
    levels = [logger.level for logger in loggers]
    from transformers.utils import logging as theirs

    bars = theirs.is_progress_bar_enabled()
    theirs.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            theirs.enable_progress_bar()
