"""A model folder's image processor and tokenizer, each on its own.

Hugging Face's combined processors also want video processors, and those want torchvision; we need
neither: videos are prepared frame by frame with the image processor.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokprof.errors import InputError
from tokprof.models.weights import quiet

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def processor_and_tokenizer(folder: Path) -> tuple[Any, Any]:
    """Each is None where the folder has no files for it."""
    from transformers import AutoImageProcessor, AutoTokenizer

    processor = tokenizer = None
    try:
        with quiet():
            if any((folder / name).is_file() for name in PROCESSOR_FILES):
                processor = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
            if any((folder / name).is_file() for name in TOKENIZER_FILES):
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever is wrong with a user's files
        raise InputError(f"the processor in {folder} cannot be loaded: {error}", "is the folder complete?") from error
    if tokenizer is not None:
        tokenizer.chat_template = _chat_template(folder) or tokenizer.chat_template
    return processor, tokenizer


def _chat_template(folder: Path) -> str | None:
    """The processor's template, which knows about pictures; the tokenizer's may not."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if (folder / "chat_template.json").is_file():
        template = json.loads((folder / "chat_template.json").read_text(encoding="utf-8"))["chat_template"]
        return str(template)
    return None
