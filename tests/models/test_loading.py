"""Where weights come from, and what is said about it. The hub is never asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.models.tiny import build_tiny, tiny, tiny_entry
from tokprof.errors import InputError
from tokprof.models import load
from tokprof.models.catalog import demo_folder, find
from tokprof.recipe import Workload


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("my-llava")
    tiny("llava-next").model.save_pretrained(folder)  # type: ignore[operator]
    return folder


def unreachable_cache(repository: str, name: str) -> None:
    """Nothing is cached."""


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise ConnectionError("offline")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", unreachable_cache)


def test_the_demo_reads_its_own_files() -> None:
    adapter = load("demo")
    provenance = json.loads((demo_folder() / "provenance.json").read_text())
    assert adapter.weights == "llava-next"
    assert adapter.trained == provenance["trained"]
    prepared = adapter.prepare(Workload(prompt="What colour is the circle?"))
    assert prepared.layout.count == 744
    text = adapter.tokenizer.decode(prepared.input_ids[0, prepared.text_index])
    assert "circle" in text
    assert prepared.input_ids[0, 0] == adapter.tokenizer.bos_token_id
    assert (prepared.input_ids[0] == adapter.tokenizer.bos_token_id).sum() == 1


def test_a_saved_folder_is_the_same_model(saved: Path) -> None:
    original, again = tiny("llava-next"), load(str(saved))
    assert again.weights == str(saved.name) and again.trained
    assert again.shape.vision == original.shape.vision
    workload = Workload(image_size=(64, 40), batch=2)
    for adapter in (load(tiny_entry("llava-next"), str(saved)), again):
        with torch.no_grad():
            theirs = adapter.embed_visual(adapter.encode(prepared := adapter.prepare(workload)), prepared)
            ours = original.embed_visual(original.encode(prepared := original.prepare(workload)), prepared)
        assert torch.equal(ours, theirs)


def test_weights_without_safetensors_are_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\0" * 16)
    with pytest.raises(InputError, match="safetensors"):
        load(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be loaded"):
        load(str(tmp_path))
    with pytest.raises(InputError, match="no folder"):
        load("demo", "./not-there")


def test_without_hub_auto_falls_back_and_says_so(no_hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    entry = replace(tiny_entry("llava"), repository="somebody/llava")
    adapter = load(entry)
    assert not adapter.trained and adapter.weights == "random"
    assert "somebody/llava" in adapter.notes[0] and "random weights" in adapter.notes[0]
    with pytest.raises(InputError, match="somebody/llava"):
        load(entry, "hub")
    with pytest.raises(InputError, match="no repository"):
        load("llava-1.5-mobilellama-2.7b", "hub")


def test_drawn_weights_follow_the_seed() -> None:
    one, same, other = (load(tiny_entry("llava"), "random", seed=seed) for seed in (1, 1, 2))
    weights = [
        adapter.model.get_parameter("model.multi_modal_projector.linear_1.weight") for adapter in (one, same, other)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("family", ["llava-next", "qwen2.5-vl", "onevision"])
def test_drawn_weights_stay_finite_in_bf16(family: str) -> None:
    adapter = load(tiny_entry(family), "random", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in adapter.model.parameters()} == {torch.bfloat16}
    prepared = adapter.prepare(Workload(image_size=(64, 40)))
    with torch.no_grad():
        logits = adapter.model(**adapter.forward_inputs(prepared)).logits
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()


def test_attention_backends() -> None:
    assert build_tiny("llava", attention="eager").config._attn_implementation == "eager"
    flash = build_tiny("llava", attention="flash")
    assert flash.config._attn_implementation in ("sdpa", "flash_attention_2")
    assert flash.config._attn_implementation != "sdpa" or "flash" in flash.notes[0]


def test_seven_billion_parameters_on_meta() -> None:
    """Nothing is allocated, so the size and the parameter count can be looked at anywhere."""
    adapter = load("llava-next-7b", device="meta", dtype=torch.bfloat16)
    decoder = adapter.shape.decoder
    layer = adapter.decoder.layers[0]
    matrices = sum(parameter.numel() for parameter in layer.parameters() if parameter.dim() == 2)
    assert matrices == decoder.layer_parameters
    assert sum(parameter.numel() for parameter in adapter.model.parameters()) == 7_063_431_168
    prepared = adapter.prepare(Workload())
    assert prepared.layout.count == 2340
    with torch.no_grad():
        assert adapter.embeddings(prepared).shape == (1, len(prepared.input_ids[0]), decoder.width)


def test_a_request_says_what_was_made_up() -> None:
    adapter = tiny("llava-next")
    prepared = adapter.prepare(Workload(image_size=(64, 40), batch=3, prompt="one two three"))
    assert (
        "made up" in prepared.description and "synthetic" in prepared.description and "shifted" in prepared.description
    )
    assert prepared.scene.text == len(prepared.text_index)
    assert prepared.scene.text_after == int((prepared.text_index > prepared.visual_index[0]).sum())
    assert prepared.sha256 == adapter.prepare(Workload(image_size=(64, 40), batch=3, prompt="one two three")).sha256
    assert prepared.sha256 != adapter.prepare(Workload(image_size=(64, 40), batch=3, prompt="one two four six")).sha256
    assert prepared.preprocess_ms > 0
    assert find("demo").picture == (672, 672)
