"""What token dropout in training does to the table of methods: the last stage again, from the same start.

`python -m benchmarks.demo_ablation VARIANT [--start tokprof/demo/llava] [--out build/ablation-VARIANT]`. The start
is the model before its last stage, as the training left it. The variants see the same pictures and questions:

- `uniform`: the stage as it is, every subset of a size equally likely;
- `none`: every token is always there;
- `standing-out`: as many tokens, but those whose features lie far from the picture's mean are drawn more often
  (a token one standard deviation farther: e times). Informed selection keeps such tokens.

`python -m benchmarks.demo_accuracy --weights build/ablation-VARIANT/llava-next` then measures the methods.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from tokprof.demo import LLAVA_NEXT_FOLDER
from tokprof.demo.captions import CaptionHeads
from tokprof.demo.files import build_model, write_folder
from tokprof.demo.learning import Learner, any_subset
from tokprof.demo.plan import LLAVA_NEXT, Plan
from tokprof.demo.train import progress_bars, provenance, run_stage

LAST = len(LLAVA_NEXT.stages) - 1


def standing_out(visual: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """Subsets by lot with weights: the largest of weight plus Gumbel noise."""
    away = (visual - visual.mean(dim=1, keepdim=True)).float().norm(dim=2).detach()
    weight = (away - away.mean(dim=1, keepdim=True)) / away.std(dim=1, keepdim=True)
    noise = torch.from_numpy(rng.gumbel(size=visual.shape[:2])).to(weight)
    places: Tensor = (weight + noise).topk(size, dim=1).indices.sort(dim=1).values
    return places


def begun(plan: Plan, start: Path) -> Learner:
    """The model as it was before the last stage; only what tiles bring is new."""
    model = build_model(plan.seed)
    model.model.vision_tower.set_attn_implementation("eager")
    before = LlavaForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    found = model.load_state_dict(before.state_dict(), strict=False)
    if found.unexpected_keys or found.missing_keys != ["model.image_newline"]:
        raise SystemExit(f"{start} does not hold the model before tiles: {found}")
    return Learner(model, CaptionHeads(model.config.vision_config.hidden_size), [])


def variant(name: str, seed: int) -> tuple[Plan, bool]:
    """Its plan, and whether subsets prefer tokens that stand out."""
    plan = replace(LLAVA_NEXT, seed=seed)
    if name == "none":
        plan = replace(plan, stages=(*plan.stages[:LAST], replace(plan.stages[LAST], dropped_share=0.0)))
    return plan, name == "standing-out"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=("uniform", "none", "standing-out"))
    parser.add_argument("--start", type=Path, default=LLAVA_NEXT_FOLDER.parent / "llava")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--smoke", type=int, metavar="STEPS", help="a few steps, to see that it runs")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    out = given.out or Path("build") / f"ablation-{given.variant}"
    out.mkdir(parents=True, exist_ok=True)
    plan, biased = variant(given.variant, given.seed)
    plan = plan.shortened(given.smoke) if given.smoke else plan
    learner = begun(plan, given.start)
    learner.choose = standing_out if biased else any_subset
    with progress_bars(quiet=False) as progress:
        run_stage(learner, plan, LAST, out, "cpu", progress)
    write_folder(out / "llava-next", learner.model, {**provenance(plan, "cpu"), "ablation": given.variant})


if __name__ == "__main__":
    main()
