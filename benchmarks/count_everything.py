"""Formula against count for every model × every method at full size, on the meta device.

    python benchmarks/count_everything.py [--models a,b] [--methods c,d] [--out reports/flops]

Writes `counted.json` (every part of every pair) and `counted.md` (the worst residual of each pair). No
weights, no GPU; tens of minutes on one core, because Python runs every operator of every layer.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from tokprof import __version__, policies
from tokprof.atomic import write_text_atomically
from tokprof.errors import TokprofError
from tokprof.flops.analytic import PARTS
from tokprof.flops.planning import Prompt, case
from tokprof.flops.residuals import TOLERANCE, Uncounted, residual_of
from tokprof.models import catalog, load

KEEP = 0.25
PROMPT = {"text": 64, "new_tokens": 3}
FRAMES = 8
ON_VIDEO_TOO = ("dense", "dycoke")  # where the model takes pictures and videos


def main() -> int:
    options = _options()
    rows = [row for model in options.models for row in _rows(model, options.methods)]
    _write(options.out, rows)
    off = [row for row in rows if row.get("worst", 0.0) > TOLERANCE or row.get("unknown_matrix_work")]
    for row in off:
        print(f"OFF {row['model']} {row['method']}: {row['worst']:.2%} {row['unknown_matrix_work']}", file=sys.stderr)
    return 1 if off else 0


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=lambda text: text.split(","), default=catalog.names())
    parser.add_argument("--methods", type=lambda text: text.split(","), default=policies.names())
    parser.add_argument("--out", type=Path, default=Path("reports/flops"))
    return parser.parse_args()


def _rows(model: str, methods: list[str]) -> list[dict[str, Any]]:
    entry = catalog.find(model)
    adapter = load(entry, "random", device="meta", dtype=torch.bfloat16)
    rows = [_row(adapter, model, method, Prompt(**PROMPT)) for method in methods]
    if entry.shape.videos:
        rows += [
            _row(adapter, model, method, Prompt(**PROMPT, frames=FRAMES))
            for method in methods
            if method in ON_VIDEO_TOO
        ]
    del adapter
    gc.collect()
    return rows


def _row(adapter: Any, model: str, method: str, prompt: Prompt) -> dict[str, Any]:
    began = time.perf_counter()
    row: dict[str, Any] = {"model": model, "method": f"{method} (video)" if prompt.frames else method}
    try:
        found = residual_of(adapter, _case(adapter.entry, method, prompt), prompt)
    except TokprofError as error:
        return {**row, "refused": error.message}
    if isinstance(found, Uncounted):
        return {**row, "refused": "its data decide"}
    print(f"{model} {found.label}: worst residual {found.worst:.4%}", flush=True)
    return {
        **row,
        "parameters": found.label,
        "exact_and_counted": {part: [found.exact[part], found.counted[part]] for part in PARTS},
        "worst": found.worst,
        "unknown_matrix_work": dict(found.unknown_matrix_work),
        "seconds": round(time.perf_counter() - began, 1),
    }


def _case(entry: Any, method: str, prompt: Prompt) -> Any:
    """A quarter of the tokens, or a method's own default where it cannot reach that; decisions of the data fixed."""
    given = {"exit_layer": entry.shape.decoder.depth // 2} if method == "todre" else {}
    try:
        return case(entry, method, {"keep": KEEP, **given}, prompt, causal="full", head="last")
    except TokprofError:
        return case(entry, method, given, prompt, causal="full", head="last")


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    counted = [row for row in rows if "worst" in row]
    facts = {
        "tokprof": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "prompt": PROMPT,
        "pairs": len(counted),
        "worst_residual": max((row["worst"] for row in counted), default=None),
    }
    write_text_atomically(folder / "counted.json", json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    write_text_atomically(folder / "counted.md", _markdown(facts, rows))


def _markdown(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    models = list(dict.fromkeys(row["model"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = {(row["model"], row["method"]): _cell(row) for row in rows}
    lines = [
        "# Exact FLOPs against counted FLOPs",
        "",
        f"{facts['pairs']} pairs of model and method at full size on the meta device; worst residual of any part "
        f"{100 * (facts['worst_residual'] or 0):.4f} %. torch {facts['torch']}, transformers {facts['transformers']}, "
        f"peak memory {facts['peak_memory_gib']} GiB. Made by `python benchmarks/count_everything.py`.",
        "",
        "Each cell: the worst residual over vision, projector, selection, prefill, decode and head; – where the",
        "method makes no sense on the model or decides by data (`counted.json` has the reason).",
        "",
        "| method | " + " | ".join(models) + " |",
        "|---" * (len(models) + 1) + "|",
    ]
    lines += [
        f"| {method} | " + " | ".join(cells.get((model, method), "–") for model in models) + " |" for method in methods
    ]
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any]) -> str:
    if "worst" not in row:
        return "–"
    return "0" if row["worst"] == 0 else f"{100 * row['worst']:.4f} %"


if __name__ == "__main__":
    sys.exit(main())
