"""tokprof measures what visual-token reduction really buys: time, memory, FLOPs, fidelity."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Edit", "Need", "Policy", "Recipe", "RunRecord", "__version__", "profile"]

if TYPE_CHECKING:
    from tokprof.policies.base import Edit, Need, Policy
    from tokprof.profiler import profile
    from tokprof.recipe import Recipe
    from tokprof.record import RunRecord

_HOMES = {
    "Edit": "tokprof.policies.base",
    "Need": "tokprof.policies.base",
    "Policy": "tokprof.policies.base",
    "Recipe": "tokprof.recipe",
    "RunRecord": "tokprof.record",
    "profile": "tokprof.profiler",
}


def __getattr__(name: str) -> Any:  # `import tokprof` stays instant: nothing heavy until it is used
    if name not in _HOMES:
        raise AttributeError(f"module 'tokprof' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
