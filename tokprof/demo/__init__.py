"""The bundled demo: a tiny, really trained LLaVA-NeXT and the questions it answers.

Importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path

LLAVA_NEXT_FOLDER = Path(__file__).parent / "llava-next"

__all__ = ["LLAVA_NEXT_FOLDER"]
