"""A model folder's image processor and tokenizer, each on its own.

Hugging Face's combined processors also want video processors, and those want torchvision; we need
neither: videos are prepared frame by frame with the image processor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokprof.errors import InputError
from tokprof.models.weights import quiet

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def processor_in(folder: Path, processor_class: Any) -> Any:
    """None where the folder has no files for it. `processor_class`: the family's own, over Pillow."""
    if not any((folder / name).is_file() for name in PROCESSOR_FILES):
        return None
    with _reading(folder, "image processor"):
        return processor_class.from_pretrained(folder, local_files_only=True)


def tokenizer_in(folder: Path) -> Any:
    """None where the folder has no files for it."""
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    with _reading(folder, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer.chat_template = _chat_template(folder) or tokenizer.chat_template
    return tokenizer


@contextmanager
def _reading(folder: Path, what: str) -> Iterator[None]:
    try:
        with quiet():
            yield
    except Exception as error:  # whatever is wrong with a user's files
        raise InputError(f"the {what} in {folder} cannot be loaded: {error}", "is the folder complete?") from error


def _chat_template(folder: Path) -> str | None:
    """The processor's template, which knows about pictures; the tokenizer's may not."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if (folder / "chat_template.json").is_file():
        template = json.loads((folder / "chat_template.json").read_text(encoding="utf-8"))["chat_template"]
        return str(template)
    return None
