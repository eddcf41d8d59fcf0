"""What a training run does, in steps: the whole configuration of the shipped weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from tokprof.demo.questions import KIND_SHARES


@dataclass(frozen=True)
class Stage:
    """One stretch of training with its own learning rate schedule."""

    name: str
    steps: int
    pictures: int
    learning_rate: float
    tiled: bool = False
    questions: int = 16
    answers: bool = True
    kind_shares: tuple[float, ...] = KIND_SHARES
    contrast: float = 0.0  # weight of the CLS token's captions
    quarters: float = 0.0  # weight of the words about each quarter
    tower_rate: float = 1.0  # share of the learning rate; 0 freezes the vision tower
    dropped_share: float = 0.0  # batches that see a uniform random subset of the visual tokens
    dropped_from: float = 0.0  # share of the stage without any dropping
    kept: tuple[int, ...] = ()  # subset sizes, equally often
    room: int = 0  # in half of the batches, questions stand where they would behind so many visual tokens
    compacted_share: float = 0.5  # of those batches: positions close up instead of keeping gaps


@dataclass(frozen=True)
class Plan:
    seed: int = 0
    warm_up: float = 0.03
    final_rate: float = 0.02
    eos_weight: float = 0.1
    clip: float = 1.0
    stages: tuple[Stage, ...] = ()

    def hash(self) -> str:
        """Of everything but the seed: runs of one recipe share it."""
        recipe = json.dumps(asdict(replace(self, seed=0)), sort_keys=True)
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]

    def shortened(self, steps: int) -> Plan:
        """The same stages of at most `steps` steps and four pictures, for a smoke test."""
        return replace(
            self,
            stages=tuple(
                replace(stage, steps=min(steps, stage.steps), pictures=min(4, stage.pictures)) for stage in self.stages
            ),
        )


LLAVA_NEXT = Plan(
    stages=(
        Stage("tower", 800, 64, 4e-3, answers=False, contrast=1.0, quarters=1.0),
        Stage(
            "overview",
            900,
            24,
            3e-3,
            tower_rate=0.3,
            contrast=0.1,
            quarters=0.1,
            dropped_share=0.5,
            dropped_from=0.5,
            kept=(36, 72),
        ),
        Stage(
            "again",  # a second rise of the learning rate: tying colour to shape takes its time
            700,
            24,
            3e-3,
            tower_rate=0.3,
            contrast=0.1,
            quarters=0.1,
            dropped_share=0.5,
            dropped_from=0.5,
            kept=(36, 72),
        ),
        Stage(
            "places",  # where and how many come last: they need what the others have learnt
            600,
            24,
            2.5e-3,
            tower_rate=0.5,
            contrast=0.1,
            quarters=0.1,
            kind_shares=(0.18, 0.10, 0.10, 0.34, 0.24, 0.04),
            dropped_share=0.4,
            dropped_from=0.5,
            kept=(36, 72),
        ),
        Stage(
            "distance",  # positions must not hang on how far the question is: tiles will lie between
            700,
            24,
            2.5e-3,
            tower_rate=0.5,
            contrast=0.1,
            quarters=0.1,
            kind_shares=(0.18, 0.10, 0.10, 0.34, 0.24, 0.04),
            dropped_share=0.4,
            dropped_from=0.5,
            kept=(36, 72),
            room=744,
        ),
        Stage(
            "tiles",
            1200,
            10,
            2e-3,
            tiled=True,
            tower_rate=0.0,
            kind_shares=(0.18, 0.09, 0.09, 0.30, 0.29, 0.05),
            dropped_share=0.8,
            kept=(74, 186, 372),
        ),
    )
)
