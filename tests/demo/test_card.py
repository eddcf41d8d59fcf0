"""The card's figures are those of the committed record, and the record is of the committed weights."""

from __future__ import annotations

import json

from benchmarks.demo_accuracy import DemoAccuracy
from tokprof.demo import LLAVA_NEXT_FOLDER

DEMO = LLAVA_NEXT_FOLDER.parent
RECORD = DEMO / "records" / "accuracy.json"


def test_the_record_is_of_these_weights() -> None:
    provenance = json.loads((LLAVA_NEXT_FOLDER / "provenance.json").read_text(encoding="utf-8"))
    assert json.loads(RECORD.read_text(encoding="utf-8"))["model"] == provenance


def test_the_card_quotes_the_record() -> None:
    card = (DEMO / "MODEL_CARD.md").read_text(encoding="utf-8")
    record = DemoAccuracy.read(RECORD)
    for kind in ("all", *record.kinds, "easy", "hard"):
        share = record.dense.share(record.chosen(kind))
        assert f"| {kind} | {share.right:.0f} | {share.asked} | {100 * share.value:.1f} |" in card
    assert len(record.data["kinds"]) == 1000


def test_the_other_weights_are_of_the_same_plan() -> None:
    shipped, seed, ablated = (
        json.loads((RECORD.parent / f"{name}.json").read_text(encoding="utf-8"))["model"]
        for name in ("accuracy", "seed1", "ablation-standing-out")
    )
    assert shipped["plan"] == seed["plan"] == ablated["plan"]
    assert (shipped["seed"], seed["seed"]) == (0, 1) and ablated["ablation"] == "standing-out"


def test_the_log_covers_every_stage_to_its_last_step() -> None:
    provenance = json.loads((LLAVA_NEXT_FOLDER / "provenance.json").read_text(encoding="utf-8"))
    lines = (LLAVA_NEXT_FOLDER / "training.jsonl").read_text(encoding="utf-8").splitlines()
    last = {line["stage"]: line["step"] for line in map(json.loads, lines) if "stage" in line}
    assert last == provenance["steps"]
