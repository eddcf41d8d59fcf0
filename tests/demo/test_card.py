"""The card's figures are those of the committed record, and the record is of the committed weights."""

from __future__ import annotations

import json

from tokprof.demo import LLAVA_NEXT_FOLDER

DEMO = LLAVA_NEXT_FOLDER.parent
RECORD = DEMO / "records" / "accuracy.json"


def test_the_record_is_of_these_weights() -> None:
    provenance = json.loads((LLAVA_NEXT_FOLDER / "provenance.json").read_text(encoding="utf-8"))
    assert json.loads(RECORD.read_text(encoding="utf-8"))["model"] == provenance


def test_the_card_quotes_the_record() -> None:
    card = (DEMO / "MODEL_CARD.md").read_text(encoding="utf-8")
    for arm in json.loads(RECORD.read_text(encoding="utf-8"))["arms"]:
        right, asked = arm["right_of"]["all"]
        assert f"{100 * right / asked:.1f}" in card, arm["method"]


def test_the_log_covers_every_stage_to_its_last_step() -> None:
    provenance = json.loads((LLAVA_NEXT_FOLDER / "provenance.json").read_text(encoding="utf-8"))
    lines = (LLAVA_NEXT_FOLDER / "training.jsonl").read_text(encoding="utf-8").splitlines()
    last = {line["stage"]: line["step"] for line in map(json.loads, lines) if "stage" in line}
    assert last == provenance["steps"]
