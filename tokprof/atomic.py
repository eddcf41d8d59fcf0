"""Files that are whole or not there: whoever is killed while writing leaves the old one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tokprof.errors import InputError


def write_text_atomically(path: Path, text: str) -> None:
    """All of the text or nothing: a reader never sees half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", "choose a folder you may write to") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise InputError(
            f"cannot write {path}: {error.strerror}", "free some space or choose another folder"
        ) from error
