"""Our dense prefill against Hugging Face's forward, our decode step against a step of its `generate`.

Ratios of medians with 95 % intervals, from interleaved rounds in one process; below 1 is faster than
Hugging Face. `python benchmarks/engine_against_transformers.py [--json FILE] [--rounds N] [--model demo|0.3b|all]`
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from tokprof import policies
from tokprof.engine.request import run_request
from tokprof.environment import snapshot
from tokprof.measure.clock import NoClock
from tokprof.measure.stats import median, ratio_interval
from tokprof.models import load
from tokprof.models.adapter import Adapter
from tokprof.models.catalog import CLIP_336, NEXT_GRIDS, Entry, two_layers
from tokprof.recipe import Workload
from tokprof.shapes import DecoderShape, ModelShape

STEPS = 33  # decode steps per generate call
SMALL = Workload(image_size=(336, 336))


def third_of_a_billion() -> Adapter:
    """A decoder of 16 layers and width 1024 behind a CLIP of 12 blocks: 0.31 billion parameters, in LLaVA-NeXT."""
    decoder = DecoderShape(depth=16, width=1024, ffn=2816, heads=16, kv_heads=16, vocab=32064)
    tower = replace(CLIP_336, depth=12, layers_run=11, width=512, ffn=2048, heads=8)
    shape = ModelShape(
        name="llava-next-0.3b",
        family="llava_next",
        decoder=decoder,
        vision=tower,
        projector=two_layers(tower, decoder),
        tiling="anyres",
        grids_px=NEXT_GRIDS,
    )
    return load(Entry(shape=shape), weights="random")


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    samples: tuple[list[float], list[float]] = ([], [])
    for work in (ours, theirs, ours, theirs):
        work()
    for index in range(rounds):
        order = (0, 1) if index % 2 == 0 else (1, 0)
        for side in order:
            samples[side].append(seconds((ours, theirs)[side]))
    return samples


@torch.inference_mode()
def compare(adapter: Adapter, name: str, rounds: int, workload: Workload) -> dict[str, object]:
    prepared = adapter.prepare(workload)
    dense, inputs, model = policies.build("dense"), adapter.forward_inputs(prepared), adapter.model

    def our_prefill() -> object:
        return run_request(adapter, dense, prepared, NoClock(), 1)

    def their_prefill() -> object:
        return model(**inputs, use_cache=True, logits_to_keep=1)

    def our_request() -> object:
        return run_request(adapter, dense, prepared, NoClock(), STEPS)

    def their_request() -> object:
        return model.generate(  # type: ignore[operator]
            **inputs, max_new_tokens=STEPS, do_sample=False, pad_token_id=0, eos_token_id=adapter.shape.decoder.vocab
        )

    prefill = interleaved(our_prefill, their_prefill, rounds)
    request = interleaved(our_request, their_request, max(5, rounds // 2))
    whole_prefill = [median(side) for side in prefill]
    steps = [
        [(total - base) / (STEPS - 1) for total in side] for side, base in zip(request, whole_prefill, strict=True)
    ]
    results = {}
    for label, (ours, theirs) in {"prefill": prefill, "request": request, "decode step": steps}.items():
        interval = ratio_interval(ours, theirs, seed=0)
        results[label] = {
            "ratio": interval.ratio,
            "interval": [interval.low, interval.high],
            "ours_ms": 1e3 * median(ours),
            "theirs_ms": 1e3 * median(theirs),
            "rounds": len(ours),
        }
        print(
            f"{name:16s} {label:12s} {interval.ratio:.3f} of transformers' time "
            f"[{interval.low:.3f}, {interval.high:.3f}]"
        )
    return {"model": name, "visual_tokens": prepared.layout.count, "results": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", choices=["demo", "0.3b", "all"], default="all")
    options = parser.parse_args()
    found = []
    if options.model in ("demo", "all"):
        found.append(compare(load("demo"), "demo", 2 * options.rounds, Workload()))
    if options.model in ("0.3b", "all"):
        found.append(compare(third_of_a_billion(), "llava-next-0.3b", options.rounds // 2, SMALL))
    if options.json:
        report = {"environment": snapshot("cpu").model_dump(mode="json"), "comparisons": found}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
