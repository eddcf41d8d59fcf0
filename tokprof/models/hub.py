"""A repository's files: from the hub's cache where they are, else downloaded. No torch."""

from __future__ import annotations

import json
from pathlib import Path

from tokprof.errors import InputError

FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
PATIENCE_S = 10


def cached(repository: str, *, whole: bool = False) -> Path | None:
    """The newest snapshot in the cache, if there is one; `whole`: with all of its weights."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repository, "config.json")
    except HFValidationError:  # no name that a repository could have, such as ./my-model
        return None
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    return folder if has_weights(folder) or not whole else None


def has_weights(folder: Path) -> bool:
    """Whether all of a folder's safetensors are there; large models keep them in several files."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return any(folder.glob("*.safetensors"))
    parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return all((folder / part).is_file() for part in parts)


def configuration(repository: str) -> Path | None:
    """A folder with the repository's config.json; None if there is no such repository, or no network."""
    folder = cached(repository)
    if folder is not None:
        return folder
    try:
        _ask(repository)
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repository, "config.json")).parent
    except Exception:  # no network, no such repository, no permission: then the name is unknown to us
        return None


def weights(repository: str) -> Path:
    """A folder with everything that is needed to load the model."""
    folder = cached(repository, whole=True)
    if folder is not None:
        return folder
    try:
        _ask(repository)
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(repository, allow_patterns=FILES))
    except Exception as error:  # no network, no such repository, no permission, no space
        raise InputError(
            f"the weights of {repository} cannot be had from the hub ({type(error).__name__})",
            "use --weights random, or give a folder with the files",
        ) from error


def _ask(repository: str) -> None:
    """One short question, so that a machine without network is not kept waiting by retries."""
    from huggingface_hub import HfApi

    HfApi().model_info(repository, timeout=PATIENCE_S)
