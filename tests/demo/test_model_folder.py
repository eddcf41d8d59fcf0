"""The folder is for plain transformers: nothing here but what a stranger would write."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from tokprof.demo import LLAVA_NEXT_FOLDER
from tokprof.demo.batches import crops_of, encode_question, prefix_tokens
from tokprof.demo.files import IMAGE, build_model, build_processor, prompt_text
from tokprof.demo.questions import VALIDATION_SEED, held_out
from tokprof.demo.words import VOCABULARY

VISUAL_TOKENS = 744


@pytest.fixture(scope="module")
def processor() -> Any:
    return AutoProcessor.from_pretrained(LLAVA_NEXT_FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForImageTextToText.from_pretrained(LLAVA_NEXT_FOLDER).eval()


def test_weights_are_small_enough_for_the_wheel() -> None:
    assert (LLAVA_NEXT_FOLDER / "model.safetensors").stat().st_size <= 8_000_000


def test_the_overview_sibling_loads_and_is_small_enough() -> None:
    folder = LLAVA_NEXT_FOLDER.parent / "llava"
    assert (folder / "model.safetensors").stat().st_size <= 8_000_000
    sibling = AutoModelForImageTextToText.from_pretrained(folder).eval()
    question = held_out(1, VALIDATION_SEED)[0]
    inputs = AutoProcessor.from_pretrained(folder)(
        images=question.image, text=prompt_text(question.text), return_tensors="pt"
    )
    assert int((inputs["input_ids"] == IMAGE).sum()) == 144
    assert sibling(**inputs).logits.isfinite().all()


def test_provenance_matches_the_weights(model: Any) -> None:
    provenance = json.loads((LLAVA_NEXT_FOLDER / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["parameters"] == sum(one.numel() for one in model.parameters())
    assert isinstance(provenance["trained"], bool)


def test_folder_is_what_the_code_writes(processor: Any) -> None:
    built = build_processor()
    assert processor.tokenizer.get_vocab() == built.tokenizer.get_vocab()
    assert processor.chat_template == built.chat_template
    assert processor.image_processor.image_grid_pinpoints == built.image_processor.image_grid_pinpoints


def test_every_word_is_one_token(processor: Any) -> None:
    for word in VOCABULARY:
        assert len(processor.tokenizer(word, add_special_tokens=False)["input_ids"]) == 1
        assert processor.tokenizer.decode(processor.tokenizer(word)["input_ids"][1:]) == word


def test_unknown_words_fall_back_to_letters(processor: Any) -> None:
    text = "zebra, quagga!"
    ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert processor.tokenizer.unk_token_id not in ids
    assert processor.tokenizer.decode(ids) == text


def test_chat_template_equals_the_training_prompt(processor: Any) -> None:
    question = held_out(1, VALIDATION_SEED)[0]
    content = [{"type": "image", "image": question.image}, {"type": "text", "text": question.text}]
    chat = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    plain = processor(images=question.image, text=prompt_text(question.text), return_tensors="pt")
    assert torch.equal(chat["input_ids"], plain["input_ids"])
    expected = [*prefix_tokens(), *[IMAGE] * VISUAL_TOKENS, *encode_question(question.text)]
    assert plain["input_ids"][0].tolist() == expected


def test_training_crops_equal_the_processors(processor: Any) -> None:
    image = held_out(1, VALIDATION_SEED)[0].image
    made = processor(images=image, text=prompt_text("What?"), return_tensors="pt")
    torch.testing.assert_close(made["pixel_values"][0], crops_of(image), atol=1e-6, rtol=0)


def test_a_wide_picture_works_too(processor, model) -> None:
    image = held_out(1, VALIDATION_SEED)[0].image.resize((300, 150))
    inputs = processor(images=image, text=prompt_text("Which digit is shown?"), return_tensors="pt")
    assert model.generate(**inputs, do_sample=False).shape[1] > inputs["input_ids"].shape[1]


def test_batches_answer_as_single_questions_do(processor, model) -> None:
    questions = held_out(4, VALIDATION_SEED)
    texts = [prompt_text(question.text) for question in questions]
    images = [question.image for question in questions]
    together = processor(images=images, text=texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        joint = model(**together).logits[:, -1]
        for row, (image, text) in enumerate(zip(images, texts, strict=True)):
            alone = model(**processor(images=image, text=text, return_tensors="pt")).logits[0, -1]
            torch.testing.assert_close(joint[row], alone, atol=2e-4, rtol=2e-4)


def test_the_same_seed_builds_the_same_model() -> None:
    one, other = build_model(3).state_dict(), build_model(3).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
