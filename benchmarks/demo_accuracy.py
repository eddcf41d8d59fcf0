"""Every method on the demo's held-out questions, each beside random dropping on its own schedule.

`python -m benchmarks.demo_accuracy [--weights FOLDER] [--questions 1000] [--out FILE]`. One arm per method at its
usual budget, with its *twin*: tokens drawn by lot, as many, where and when the method drops them. Then a grid of
some methods at equal `keep`. The record holds every single answer as right (1) or wrong (0), so that any two arms
can be compared question by question. The model card and docs/methods.md are made from it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokprof import policies
from tokprof.accuracy.evaluation import Share
from tokprof.accuracy.proportions import Paired, paired
from tokprof.atomic import write_text_atomically
from tokprof.demo.questions import HELD_OUT_SEED
from tokprof.errors import TokprofError
from tokprof.recipe import Method, Recipe, Setting

if TYPE_CHECKING:
    from tokprof.accuracy.questions import QuestionSet
    from tokprof.resolve import Ready

CONTROLS = ("random", "uniform", "downsample", "avgpool")  # rivals without a claim of their own
GRID_METHODS = ("random", "uniform", "fastervlm", "visionzip", "todre", "fastv", "v2drop", "visiondrop")
GRID_KEEPS = (0.5, 0.25, 0.1)
LARGER_KEEPS = (0.25, 1 / 3, 0.5)
ROLES = ("usual", "twin", "grid")
SIGNIFICANT = 0.05
NEW_TOKENS = 3  # the longest answer has two


@dataclass(frozen=True)
class Arm:
    """`usual`: at the method's own budget; `twin`: drawn by lot on the schedule of the method before it."""

    method: str
    parameters: dict[str, Any]
    role: str  # dense, usual, twin or grid
    layer_mean: float
    right: str

    def share(self, chosen: Sequence[bool]) -> Share:
        answers = [mark == "1" for mark, counts in zip(self.right, chosen, strict=True) if counts]
        return Share(sum(answers), len(answers))

    def against(self, other: Arm) -> Paired:
        return paired([float(mark) for mark in self.right], [float(mark) for mark in other.right])


@dataclass(frozen=True)
class DemoAccuracy:
    """A record of this script, read again."""

    data: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> DemoAccuracy:
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def first(self, count: int) -> DemoAccuracy:
        """As if fewer questions had been asked."""
        arms = [{**arm, "right": arm["right"][:count]} for arm in self.data["arms"]]
        return DemoAccuracy(
            {**self.data, "kinds": self.data["kinds"][:count], "hard": self.data["hard"][:count], "arms": arms}
        )

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        return tuple(Arm(**arm) for arm in self.data["arms"])

    @property
    def dense(self) -> Arm:
        return self.arms[0]

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(self.data["kinds"]))

    def chosen(self, kind: str = "all") -> list[bool]:
        """Which questions are of a kind; easy and hard are kinds of another sort."""
        if kind in ("easy", "hard"):
            return [(mark == "1") == (kind == "hard") for mark in self.data["hard"]]
        return [kind in ("all", asked) for asked in self.data["kinds"]]

    def usual(self) -> list[tuple[Arm, Arm | None]]:
        """Every method at its usual budget, and its twin where it has one."""
        twins = {arm.parameters["like"]: arm for arm in self.arms if arm.role == "twin"}
        return [(arm, twins.get(arm.method)) for arm in self.arms if arm.role == "usual"]

    def verdict(self, arm: Arm, twin: Arm) -> str:
        """Is the method better than drawing lots on its schedule? McNemar's exact test on the same questions."""
        found = arm.against(twin)
        if found.p >= SIGNIFICANT:
            return "no difference"
        return "above" if found.difference > 0 else "below"

    def grid(self) -> dict[str, dict[float, Arm]]:
        found: dict[str, dict[float, Arm]] = {}
        for arm in self.arms:
            if arm.role == "grid":
                found.setdefault(arm.method, {})[arm.parameters["keep"]] = arm
        return found


def wanted(roles: Collection[str]) -> Iterator[tuple[str, list[Method]]]:
    """All arms, each with what stands in where the demo refuses the first: eight layers cannot drop as
    much as thirty-two."""
    yield "dense", [Method(name="dense")]
    for name in policies.names():
        keeps = [] if name == "dense" else [policies.build(name).keep, *LARGER_KEEPS]
        if keeps and "usual" in roles:
            yield "usual", [Method(name=name, parameters={"keep": keep}) for keep in keeps]
        if keeps and "twin" in roles and name != "random":
            yield "twin", [Method(name="random", parameters={"like": name, "keep": keep}) for keep in keeps]
    for name in GRID_METHODS if "grid" in roles else ():
        for keep in GRID_KEEPS:
            yield "grid", [Method(name=name, parameters={"keep": keep})]


def measure(weights: str, questions: int, batch: int | None, roles: Collection[str]) -> dict[str, Any]:
    from tokprof.accuracy.asking import evaluate
    from tokprof.accuracy.questions import demo_questions
    from tokprof.demo.questions import held_out
    from tokprof.profiler import Listener

    asked, hard = demo_questions(questions), [found.hard for found in held_out(questions)]
    fitting: list[tuple[str, Method, Ready]] = []
    refused: dict[str, str] = {}
    for role, methods in wanted(roles):
        for method in methods:
            try:
                fitting.append((role, method, fitted(method, weights, asked)))
                break
            except TokprofError as refusal:
                refused[f"{role} {method.name} {method.parameters}"] = refusal.message
    listener = Listener(on_stage=lambda said, _: print(f"\r{said}", end="", flush=True))
    found = evaluate([cell for _, _, cell in fitting], asked, batch=batch, new_tokens=NEW_TOKENS, listener=listener)
    arms = [
        Arm(method.name, dict(method.parameters), role, row.layer_mean, "".join(f"{score:.0f}" for score in row.scores))
        for (role, method, _), row in zip(fitting, found.rows, strict=True)
    ]
    return {
        "what": f"python -m benchmarks.demo_accuracy: {questions} held-out questions, seed {HELD_OUT_SEED}",
        "about": found.about.replace(weights, "weights of a training run") if weights != "auto" else found.about,
        "model": provenance(weights),
        "kinds": [question.kind for question in asked.questions],
        "hard": "".join("01"[is_hard] for is_hard in hard),
        "refused": refused,
        "arms": [vars(arm) for arm in arms],
    }


def fitted(method: Method, weights: str, asked: QuestionSet) -> Ready:
    from tokprof.accuracy.asking import check_fits
    from tokprof.resolve import resolve

    recipe = Recipe(models=("demo",), methods=(method,), setting=Setting(weights=weights, device="cpu"))
    (cell,) = resolve(recipe)
    check_fits([cell], asked)
    return cell


def provenance(weights: str) -> dict[str, Any]:
    from tokprof.demo import LLAVA_NEXT_FOLDER

    folder = LLAVA_NEXT_FOLDER if weights == "auto" else Path(weights)
    read: dict[str, Any] = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="auto", help="a folder as the training writes it; else the bundled one")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--arms", nargs="+", choices=ROLES, default=ROLES, help="beside the dense model")
    parser.add_argument("--out", type=Path, default=Path("build/demo-accuracy.json"))
    given = parser.parse_args()
    data = measure(given.weights, given.questions, given.batch, given.arms)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(given.out, json.dumps(data, indent=1) + "\n")
    for arm in DemoAccuracy(data).arms:
        share = arm.share([True] * given.questions)
        print(f"{arm.role:6} {arm.method:14} {arm.parameters}: {share.value:.1%}")


if __name__ == "__main__":
    main()
