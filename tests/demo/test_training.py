from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from tokprof.demo.batches import IGNORED, tiled_batch
from tokprof.demo.files import EOS, build_model, build_processor, prompt_text, write_folder
from tokprof.demo.learning import drop
from tokprof.demo.packing import answer_hidden, lay_out, see
from tokprof.demo.pictures import draw_scene, paint
from tokprof.demo.plan import LLAVA_NEXT, Plan, Stage
from tokprof.demo.questions import VALIDATION_SEED, held_out
from tokprof.demo.train import provenance, step_generator, train

SHORT = LLAVA_NEXT.shortened(2)
needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="training needs torch 2.9")


def test_packed_questions_get_the_logits_they_have_alone() -> None:
    model = build_model(1).eval()
    batch = tiled_batch(np.random.default_rng(3), pictures=1, questions=3)
    rng = np.random.default_rng(3)
    image = paint(draw_scene(rng), rng)
    inputs = build_processor()(images=image, text="USER: <image>\n", return_tensors="pt")
    with torch.no_grad():
        visual = lay_out(model, see(model, batch.pixels.flatten(0, 1), False).patches, 5)
        packed = model.lm_head(answer_hidden(model, visual, torch.arange(745)[None], batch.tokens))
        for question in range(3):
            length = int((batch.labels[0, question] != IGNORED).nonzero()[-1]) + 1
            ids = torch.cat([inputs["input_ids"][0], batch.tokens[0, question, :length]])[None]
            alone = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=inputs["pixel_values"],
                image_sizes=inputs["image_sizes"],
            ).logits
            torch.testing.assert_close(packed[0, question, :length], alone[0, -length:], atol=1e-5, rtol=1e-4)


def test_labels_are_the_answer_then_the_end() -> None:
    batch = tiled_batch(np.random.default_rng(4), pictures=2, questions=8)
    for tokens, labels in zip(batch.tokens.flatten(0, 1), batch.labels.flatten(0, 1), strict=True):
        places = (labels != IGNORED).nonzero().flatten()
        assert labels[places[-1]] == EOS
        assert labels[places[:-1]].tolist() == tokens[places[1:]].tolist()


def test_dropping_keeps_every_token_equally_often() -> None:
    stage = Stage("any", 10, 1, 1e-3, dropped_share=1.0, kept=(25,), compacted_share=0.0)
    visual = torch.zeros(400, 100, 2)
    _, places = drop(visual, stage, 0, np.random.default_rng(0))
    assert places.shape == (400, 26)
    assert (places[:, -1] == 100).all()
    assert (places[:, 1:] > places[:, :-1]).all()
    often = torch.bincount(places[:, :-1].flatten(), minlength=100)
    assert often.min() > 60 and often.max() < 140


def test_compacted_tokens_close_up() -> None:
    stage = Stage("any", 10, 1, 1e-3, dropped_share=1.0, kept=(25,), compacted_share=1.0)
    subset, places = drop(torch.zeros(3, 100, 2), stage, 0, np.random.default_rng(0))
    assert subset.shape == (3, 25, 2)
    assert places[0].tolist() == list(range(26))


def test_nothing_is_dropped_before_its_time() -> None:
    stage = Stage("any", 10, 1, 1e-3, dropped_share=1.0, dropped_from=0.5, kept=(25,))
    visual = torch.zeros(3, 100, 2)
    assert drop(visual, stage, 4, np.random.default_rng(0))[0].shape[1] == 100
    assert drop(visual, stage, 5, np.random.default_rng(0))[0].shape[1] == 25


@needs_muon
def test_a_few_steps_train_and_make_a_folder(tmp_path: Path) -> None:
    learner = train(SHORT, tmp_path, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines[1:]] == [stage.name for stage in SHORT.stages]
    assert all(np.isfinite(line["loss"]) for line in lines[1:])
    write_folder(tmp_path / "folder", learner.model, provenance(SHORT, "cpu"))
    facts = json.loads((tmp_path / "folder" / "provenance.json").read_text(encoding="utf-8"))
    assert facts["trained"] is True
    assert facts["plan"] == SHORT.hash()
    smaller = AutoModelForImageTextToText.from_pretrained(tmp_path / "llava").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "llava")
    question = held_out(1, VALIDATION_SEED)[0]
    inputs = processor(images=question.image, text=prompt_text(question.text), return_tensors="pt")
    assert int((inputs["input_ids"] == smaller.config.image_token_id).sum()) == 144
    assert smaller(**inputs).logits.isfinite().all()


@needs_muon
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(
        stages=(
            Stage("overview", 4, 2, 1e-3, contrast=0.3, questions=2),
            Stage("tiles", 2, 2, 1e-3, tiled=True, tower_rate=0.0, questions=2),
        )
    )
    whole = train(plan, tmp_path / "whole", quiet=True).model.state_dict()
    monkeypatch.setattr("tokprof.demo.train.SAVE_EVERY", 2)
    monkeypatch.setattr("tokprof.demo.train.learn", _interrupted_at(3))
    with pytest.raises(KeyboardInterrupt):
        train(plan, tmp_path / "parts", quiet=True)
    monkeypatch.undo()
    parts = train(plan, tmp_path / "parts", quiet=True).model.state_dict()
    for name, weights in whole.items():
        torch.testing.assert_close(parts[name], weights, msg=name)


@needs_muon
def test_another_plan_does_not_continue_a_run(tmp_path: Path) -> None:
    plan = Plan(stages=(Stage("overview", 1, 2, 1e-3, questions=2),))
    train(plan, tmp_path, quiet=True)
    with pytest.raises(SystemExit, match="another plan"):
        train(replace(plan, seed=1), tmp_path, quiet=True)


def test_steps_and_seeds_have_generators_of_their_own() -> None:
    drawn = {
        int(step_generator(seed, stage, step).integers(2**62))
        for seed in range(3)
        for stage in range(3)
        for step in range(20)
    }
    assert len(drawn) == 180


def test_the_hash_names_the_recipe_not_the_seed() -> None:
    assert replace(LLAVA_NEXT, seed=5).hash() == LLAVA_NEXT.hash()
    assert replace(LLAVA_NEXT, clip=2.0).hash() != LLAVA_NEXT.hash()


def _interrupted_at(call: int):  # type: ignore[no-untyped-def]
    from tokprof.demo.learning import learn

    calls = iter(range(1000))

    def interrupted(*arguments):  # type: ignore[no-untyped-def]
        if next(calls) == call:
            raise KeyboardInterrupt
        return learn(*arguments)

    return interrupted
