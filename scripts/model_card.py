"""The tables of the demo's model card, from its training log and the records of `benchmarks/demo_accuracy.py`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.demo_accuracy import GRID_KEEPS, Arm, DemoAccuracy  # noqa: E402

DEMO = ROOT / "tokprof" / "demo"
RECORDS = DEMO / "records"
ABLATIONS = {"standing-out": "biased dropout"}


def shipped() -> DemoAccuracy:
    return DemoAccuracy.read(RECORDS / "accuracy.json")


def other_seed() -> DemoAccuracy:
    return DemoAccuracy.read(RECORDS / "seed1.json")


def curve() -> str:
    """Four rows per stage, by its quarters."""
    lines = [json.loads(line) for line in (DEMO / "llava-next" / "training.jsonl").read_text().splitlines()]
    kinds = shipped().kinds
    rows = []
    for stage, logged in groupby((line for line in lines if "stage" in line), key=lambda line: str(line["stage"])):
        found = list(logged)
        for quarter in range(1, 5):
            line = found[len(found) * quarter // 4 - 1]
            if "all_tokens" in line:
                shares = [line["all_tokens"].get(kind) for kind in ("all", *kinds)]
                rows.append([stage, str(line["step"]), *(f"{100 * share:.1f}" if share else "–" for share in shares)])
    return table(["stage", "step", "all", *kinds], rows)


def accuracy() -> str:
    record = shipped()
    rows = []
    for kind in ("all", *record.kinds, "easy", "hard"):
        share = record.dense.share(record.chosen(kind))
        low, high = share.interval
        rows.append(
            [
                kind,
                f"{share.right:.0f}",
                f"{share.asked}",
                f"{100 * share.value:.1f}",
                f"{100 * low:.1f}–{100 * high:.1f}",
            ]
        )
    return table(["questions", "right", "of", "%", "95 % interval (Wilson)"], rows)


def methods() -> str:
    record = shipped()
    everything = record.chosen()
    rows = [["dense", *[_with_interval(record.dense, everything)] * len(GRID_KEEPS)]]
    for name, arms in record.grid().items():
        rows.append([name, *(_with_interval(arms[keep], everything) if keep in arms else "–" for keep in GRID_KEEPS)])
    return table(["method", *(f"keep {keep:.0%}" for keep in GRID_KEEPS)], rows)


def methods_by_kind() -> str:
    record = shipped()
    sorts = [*record.kinds, "easy", "hard"]
    arms = [("dense", record.dense), *((name, found[0.25]) for name, found in record.grid().items() if 0.25 in found)]
    rows = [[name, *(_percent(arm, record.chosen(sort)) for sort in sorts)] for name, arm in arms]
    return table(["method", *sorts], rows)


def seeds() -> str:
    """The shipped weights beside those of another training seed, on the questions that both were asked."""
    return _side_by_side({"seed 0": shipped(), "seed 1": other_seed()})


def ablation() -> str:
    records = {title: DemoAccuracy.read(RECORDS / f"ablation-{name}.json") for name, title in ABLATIONS.items()}
    return _side_by_side({"as shipped": shipped(), **records})


def _side_by_side(records: dict[str, DemoAccuracy]) -> str:
    """On the questions that all were asked: the unpruned models by kind, then the methods."""
    asked = min(len(record.data["kinds"]) for record in records.values())
    fewer = {title: record.first(asked) for title, record in records.items()}
    kinds = ["all", *shipped().kinds, "easy", "hard"]
    unpruned = [
        [title, *(_percent(record.dense, record.chosen(kind)) for kind in kinds)] for title, record in fewer.items()
    ]
    methods = []
    for name in shipped().grid():
        cells = [(record.grid()[name].get(keep), record) for keep in GRID_KEEPS for record in fewer.values()]
        methods.append([name, *(_percent(arm, record.chosen()) if arm else "–" for arm, record in cells)])
    head = ["method", *(f"{title}, keep {keep:.0%}" for keep in GRID_KEEPS for title in fewer)]
    return (
        f"Right answers in % of the first {asked} held-out questions, of the unpruned model\n\n"
        f"{table(['weights', *kinds], unpruned)}\n\nand with methods\n\n{table(head, methods)}"
    )


def _percent(arm: Arm, chosen: Sequence[bool]) -> str:
    return f"{100 * arm.share(chosen).value:.1f}"


def _with_interval(arm: Arm, chosen: Sequence[bool]) -> str:
    low, high = arm.share(chosen).interval
    return f"{_percent(arm, chosen)} ({100 * low:.1f}–{100 * high:.1f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


PARTS = {
    "curve": curve,
    "accuracy": accuracy,
    "methods": methods,
    "methods by kind": methods_by_kind,
    "seeds": seeds,
    "ablation": ablation,
}
