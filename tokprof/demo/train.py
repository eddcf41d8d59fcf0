"""Train the demo model from scratch: `python -m tokprof.demo.train`.

Everything follows from the plan and the seed: every step draws its pictures, questions and subsets
from a generator of its own, so a run that is interrupted and resumed sees what one run would have.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tokprof.demo.batches import Batch, overview_batch, tiled_batch
from tokprof.demo.captions import CaptionHeads
from tokprof.demo.files import build_model, write_folder, write_overview_folder
from tokprof.demo.learning import Learner, Outcome, build_optimisers, learn
from tokprof.demo.plan import LLAVA_NEXT, Plan, Stage
from tokprof.demo.questions import KINDS

LOG_EVERY = 25
SAVE_EVERY = 100
_TRAINING_SERIES = 1  # keeps training seeds apart from those of evaluation, see `step_generator`


def step_generator(seed: int, stage: int, step: int) -> np.random.Generator:
    """Four numbers, where an evaluation question has two: no two series can meet."""
    return np.random.default_rng([_TRAINING_SERIES, seed, stage, step])


def train(plan: Plan, out: Path, device: str = "cpu", quiet: bool = False) -> Learner:
    """Run the plan, or what is left of it; checkpoint and log go to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    learner, at_stage, at_step = _begin(plan, out, device)
    with progress_bars(quiet) as progress:
        for number in range(at_stage, len(plan.stages)):
            run_stage(learner, plan, number, out, device, progress, first=at_step if number == at_stage else 0)
            if _tiles_are_next(plan, number):
                write_overview_folder(out / "llava", learner.model, provenance(plan, device))
    return learner


def run_stage(
    learner: Learner, plan: Plan, number: int, out: Path, device: str, progress: Progress, first: int = 0
) -> None:
    """One stage, from its step `first` on."""
    stage = plan.stages[number]
    if first == 0:
        learner.optimisers = build_optimisers([learner.model, learner.heads], stage)
    bar = progress.add_task(stage.name, total=stage.steps, completed=first, loss="")
    window: list[Outcome] = []
    for step in range(first, stage.steps):
        rng = step_generator(plan.seed, number, step)
        batch = _to(device, draw_batch(stage, rng))
        window.append(learn(learner, plan, stage, step, batch, rng))
        progress.update(bar, advance=1, loss=f"loss {window[-1].loss:.3f}")
        done = step + 1
        if done % LOG_EVERY == 0 or done == stage.steps:
            log(out, summary(stage, done, window))
            window = []
        if done % SAVE_EVERY == 0 and done < stage.steps:
            _save(out, plan, learner, number, done)
    _save(out, plan, learner, number + 1, 0)


def _tiles_are_next(plan: Plan, number: int) -> bool:
    """After this stage the model has seen all the pictures without tiles it will see."""
    following = plan.stages[number + 1 : number + 2]
    return not plan.stages[number].tiled and any(stage.tiled for stage in following)


def progress_bars(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        console=Console(stderr=True),
        disable=quiet,
    )


def draw_batch(stage: Stage, rng: np.random.Generator) -> Batch:
    draw = tiled_batch if stage.tiled else overview_batch
    return draw(rng, stage.pictures, stage.questions if stage.answers else 1, stage.kind_shares)


def summary(stage: Stage, done: int, window: list[Outcome]) -> dict[str, Any]:
    """One line of the log: means since the line before."""
    line: dict[str, Any] = {
        "stage": stage.name,
        "step": done,
        "loss": round(float(np.mean([outcome.loss for outcome in window])), 4),
    }
    for label, chosen in (
        ("all_tokens", [one for one in window if one.kept >= max(o.kept for o in window)]),
        ("every_batch", window),
    ):
        asked = np.sum([outcome.asked for outcome in chosen], axis=0)
        right = np.sum([outcome.right for outcome in chosen], axis=0)
        if asked.sum():
            line[label] = {
                "all": round(float(right.sum() / asked.sum()), 4),
                **{kind: round(float(one / of), 4) for kind, one, of in zip(KINDS, right, asked, strict=True) if of},
            }
    return line


def provenance(plan: Plan, device: str) -> dict[str, Any]:
    return {
        "trained": True,
        "plan": plan.hash(),
        "seed": plan.seed,
        "steps": {stage.name: stage.steps for stage in plan.stages},
        "device": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }


def _begin(plan: Plan, out: Path, device: str) -> tuple[Learner, int, int]:
    model = build_model(plan.seed).to(device)
    model.model.vision_tower.set_attn_implementation("eager")
    torch.manual_seed(plan.seed)
    heads = CaptionHeads(model.config.vision_config.hidden_size)
    learner = Learner(model, heads.to(device), [])
    checkpoint = out / "checkpoint.pt"
    if not checkpoint.exists():
        log(out, {"started": True, **provenance(plan, device)})
        return learner, 0, 0
    saved = torch.load(checkpoint, map_location=device, weights_only=True)
    if (saved["plan"], saved["seed"]) != (plan.hash(), plan.seed):
        raise SystemExit(f"{checkpoint} is of another plan or seed; choose another --out")
    learner.model.load_state_dict(saved["model"])
    learner.heads.load_state_dict(saved["heads"])
    if saved["step"]:
        stage = plan.stages[saved["stage"]]
        learner.optimisers = build_optimisers([learner.model, learner.heads], stage)
        for optimiser, state in zip(learner.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
    return learner, saved["stage"], saved["step"]


def _save(out: Path, plan: Plan, learner: Learner, stage: int, step: int) -> None:
    state = {"plan": plan.hash(), "seed": plan.seed, "stage": stage, "step": step}
    unfinished = out / "checkpoint.part"
    torch.save({**state, **learner.state()}, unfinished)
    unfinished.replace(out / "checkpoint.pt")


def log(out: Path, line: dict[str, Any]) -> None:
    line = {**line, "at": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    with (out / "training.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def _to(device: str, batch: Batch) -> Batch:
    return Batch(**{name: value.to(device) for name, value in vars(batch).items()})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tokprof.demo.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--smoke", type=int, metavar="STEPS", help="a few steps of each stage")
    chosen = parser.parse_args(arguments)
    if not hasattr(torch.optim, "Muon"):
        parser.error(f"training needs torch 2.9 or newer, for torch.optim.Muon; this is {torch.__version__}")
    torch.set_num_threads(chosen.threads)
    plan = replace(LLAVA_NEXT, seed=chosen.seed)
    if chosen.smoke:
        plan = plan.shortened(chosen.smoke)
    learner = train(plan, chosen.out, chosen.device)
    write_folder(chosen.out / "llava-next", learner.model, provenance(plan, chosen.device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
