"""One training step: losses, token dropout, the two optimisers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaNextForConditionalGeneration

from tokprof.demo.batches import IGNORED, Batch
from tokprof.demo.captions import CaptionHeads
from tokprof.demo.files import EOS
from tokprof.demo.packing import answer_hidden, lay_out, see
from tokprof.demo.plan import Plan, Stage
from tokprof.demo.questions import KINDS

# Captions of whole pictures, then of their colours, shapes, digits alone: colours are learnt first
# and would otherwise do.
CAPTION_SHARES = (0.3, 0.1, 0.4, 0.2)


# visual tokens, how many to keep, lots → their places, ascending
Choose = Callable[[Tensor, int, np.random.Generator], Tensor]


def any_subset(visual: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """Every subset of a size is equally likely, so that no method's habit is practised."""
    chosen = np.sort(rng.random(visual.shape[:2]).argsort(axis=1)[:, :size], axis=1)
    return torch.from_numpy(chosen).to(visual.device)


@dataclass
class Learner:
    """The model, the head that is thrown away, and what moves their weights."""

    model: LlavaNextForConditionalGeneration
    heads: CaptionHeads
    optimisers: list[torch.optim.Optimizer]
    choose: Choose = any_subset

    def state(self) -> dict[str, object]:
        return {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }


@dataclass(frozen=True)
class Outcome:
    """What a step reports: losses and, per kind, right answers of questions asked."""

    loss: float
    kept: int
    right: tuple[int, ...]
    asked: tuple[int, ...]


def build_optimisers(learner_parts: list[nn.Module], stage: Stage) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else; one stage's worth."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for part in learner_parts:
        for name, parameter in part.named_parameters():
            in_tower = "vision_tower" in name
            parameter.requires_grad_(not (in_tower and stage.tower_rate == 0))
            if parameter.requires_grad:
                matrix = parameter.ndim == 2 and (".layers." in name or "projector" in name)
                groups.setdefault((matrix, in_tower), []).append(parameter)
    optimisers: list[torch.optim.Optimizer] = []
    for (matrix, in_tower), parameters in groups.items():
        rate = stage.learning_rate * (stage.tower_rate if in_tower else 1.0)
        group = [{"params": parameters, "lr": rate, "peak": rate}]
        if matrix:
            optimisers.append(torch.optim.Muon(group, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"))
        else:
            optimisers.append(torch.optim.AdamW(group, betas=(0.9, 0.98), weight_decay=0.0))
    return optimisers


def rate_share(plan: Plan, stage: Stage, step: int) -> float:
    """Linear warm-up, then a cosine down to the plan's final share."""
    warm_up = max(1, round(plan.warm_up * stage.steps))
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, stage.steps - warm_up)
    return plan.final_rate + (1 - plan.final_rate) * (1 + math.cos(math.pi * progress)) / 2


def learn(learner: Learner, plan: Plan, stage: Stage, step: int, batch: Batch, rng: np.random.Generator) -> Outcome:
    """One step of the stage; everything random comes from `rng`."""
    device = batch.pixels.device
    with torch.autocast(device.type, torch.bfloat16):
        loss, outcome = _losses(learner, plan, stage, step, batch, rng)
    for optimiser in learner.optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    moved = [
        parameter
        for part in (learner.model, learner.heads)
        for parameter in part.parameters()
        if parameter.grad is not None
    ]
    nn.utils.clip_grad_norm_(moved, plan.clip)
    share = rate_share(plan, stage, step)
    for optimiser in learner.optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * share
        optimiser.step()
    return outcome


def _losses(
    learner: Learner, plan: Plan, stage: Stage, step: int, batch: Batch, rng: np.random.Generator
) -> tuple[Tensor, Outcome]:
    crops = batch.pixels.shape[1]
    with torch.set_grad_enabled(stage.tower_rate > 0):
        seen = see(learner.model, batch.pixels.flatten(0, 1), pooled=stage.contrast > 0)
    loss = batch.pixels.new_zeros(())
    if seen.pooled is not None:
        said = batch.said.amax(dim=1)
        aspect = int(rng.choice(len(CAPTION_SHARES), p=CAPTION_SHARES)) - 1
        contrast = learner.heads.contrast(seen.pooled[::crops], said, aspect if aspect >= 0 else None)
        quarters = learner.heads.quarters(seen.patches[::crops], batch.said)
        loss = loss + stage.contrast * contrast + stage.quarters * quarters
    nothing = (0,) * len(KINDS)
    if not stage.answers:
        return loss, Outcome(float(loss.detach()), 0, nothing, nothing)
    visual = lay_out(learner.model, seen.patches, crops)
    visual, places = drop(visual, stage, step, rng, learner.choose)
    hidden = answer_hidden(learner.model, visual, places, batch.tokens)
    wanted = batch.labels != IGNORED
    logits = learner.model.lm_head(hidden[wanted]).float()
    labels = batch.labels[wanted]
    each = functional.cross_entropy(logits, labels, reduction="none")
    weights = torch.where(labels == EOS, plan.eos_weight, 1.0)
    loss = loss + (each * weights).sum() / weights.sum()
    right, asked = _right_answers(logits, batch, wanted)
    return loss, Outcome(float(loss.detach()), visual.shape[1], right, asked)


def drop(
    visual: Tensor, stage: Stage, step: int, rng: np.random.Generator, choose: Choose = any_subset
) -> tuple[Tensor, Tensor]:
    """Perhaps keep a subset of the visual tokens.

    Returns the tokens and their places, `(batch, present + 1)`; see `answer_hidden`.
    """
    batch, count, width = visual.shape
    late = step >= stage.dropped_from * stage.steps
    drawn = rng.random(2)
    size = int(rng.choice(stage.kept)) if stage.kept else count
    room = stage.room if stage.room and rng.random() < 0.5 else count
    if not late or drawn[0] >= stage.dropped_share or size >= count:
        every = torch.arange(count, device=visual.device).expand(batch, -1)
        return visual, functional.pad(every, (0, 1), value=room)
    kept = choose(visual, size, rng)
    subset = visual.gather(1, kept.unsqueeze(2).expand(-1, -1, width))
    if drawn[1] < stage.compacted_share:
        return subset, torch.arange(size + 1, device=visual.device).expand(batch, -1)
    return subset, functional.pad(kept, (0, 1), value=room)


def _right_answers(logits: Tensor, batch: Batch, wanted: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """An answer is right when all its words are; the end of the answer is not counted."""
    wrong = torch.zeros_like(batch.labels, dtype=torch.bool)
    wrong[wanted] = (logits.argmax(dim=1) != batch.labels[wanted]) & (batch.labels[wanted] != EOS)
    right = ~wrong.any(dim=2)
    counts = [
        (int((right & (batch.kinds == kind)).sum()), int((batch.kinds == kind).sum())) for kind in range(len(KINDS))
    ]
    return tuple(one for one, _ in counts), tuple(of for _, of in counts)
