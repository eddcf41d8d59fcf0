"""What a device can do at most: one large matrix product, one large copy. Kept per device and dtype."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tokprof.atomic import write_text_atomically
from tokprof.record import Ceilings

REPEATS = 5
SIDE = {"cpu": 1536, "cuda": 8192}  # of the square matrices
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}
DTYPES = ("float32", "bfloat16", "float16")
USUAL_DTYPE = {"cpu": "float32", "cuda": "bfloat16"}


def measure_ceilings(device: str, dtype: str) -> Ceilings:
    """The best of a few repeats, since a ceiling is a best case."""
    import torch

    kind = "cuda" if device.startswith("cuda") else "cpu"
    side, size = SIDE[kind], COPY_BYTES[kind]
    if kind == "cuda":
        size = min(size, torch.cuda.mem_get_info(device)[0] // 4)
    left = torch.ones(side, side, device=device, dtype=getattr(torch, dtype))
    right = torch.ones_like(left)
    product_s = _best_seconds(lambda: left @ right, kind)
    source = torch.ones(size // 4, device=device, dtype=torch.float32)
    target = torch.empty_like(source)
    copy_s = _best_seconds(lambda: target.copy_(source), kind)
    return Ceilings(
        source="measured",
        flops_per_s=2 * side**3 / product_s,
        bytes_per_s=2 * size / copy_s,  # read and written
        dtype=dtype,
    )


def _best_seconds(work: Any, kind: str) -> float:
    import torch

    best = float("inf")
    for _ in range(1 + REPEATS):
        if kind == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if kind == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best


def cache_folder() -> Path:
    """Where results about this machine are kept, as the platform has it."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "tokprof"


def store_ceilings(device_name: str, ceilings: Ceilings) -> Path:
    path = cache_folder() / "ceilings.json"
    known = _stored()
    known.setdefault(device_name, {})[ceilings.dtype] = ceilings.model_dump()
    write_text_atomically(path, json.dumps(known, indent=1) + "\n")
    return path


def stored_ceilings(device_name: str, dtype: str | None = None) -> Ceilings | None:
    """What `tokprof device` measured here; None where it did not, or where the file is damaged."""
    of_device = _stored().get(device_name)
    if not isinstance(of_device, dict) or not of_device:
        return None
    found = of_device.get(dtype) if dtype else next(iter(of_device.values()))
    try:
        return Ceilings.model_validate(found)
    except ValueError:
        return None


def _stored() -> dict[str, Any]:
    try:
        known = json.loads((cache_folder() / "ceilings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, RuntimeError):
        return {}
    return known if isinstance(known, dict) else {}
