"""Where weights come from, and what is said about it. The hub is never asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from tests.models.tiny import build_tiny, tiny, tiny_entry
from tokprof.errors import InputError, ParameterError, UnknownNameError, WorkloadError
from tokprof.models import attention_kernels, load
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
    assert adapter.weights.startswith("bundled weights, ")
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
    assert not adapter.trained and adapter.weights == "random weights (seed 0)"
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


def test_flash_kernels_by_device_and_type(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match="float32"):
        attention_kernels("flash", "cuda", "torch.float32")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())  # as if flash-attn were installed
    assert attention_kernels("flash", "cuda", "torch.bfloat16") == ("flash_attention_2", ())
    assert attention_kernels("flash", "cpu", "torch.float32")[0] == "sdpa"
    assert attention_kernels("eager", "cuda", "torch.float32") == ("eager", ())


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


def test_folders_that_lack_something_are_refused(saved: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(saved, broken)
    tensors = load_file(saved / "model.safetensors")
    save_file({name: value for name, value in tensors.items() if "layers.2" not in name}, broken / "model.safetensors")
    with pytest.raises(InputError, match=r"lacks \d+ of the model's weights"):
        load(str(broken))
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"lacks \*\.safetensors"):
        load(str(broken))
    with pytest.raises(InputError, match=r"holds a llava_next, but tiny-llava-1\.5-7b is a llava"):
        load(tiny_entry("llava"), str(saved))


def test_a_repository_in_the_cache_is_found_by_its_id(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_cache(repository: str, name: str) -> str | None:
        return str(saved / name) if repository == "somebody/their-llava" else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", in_cache)
    adapter = load("somebody/their-llava")
    assert adapter.trained and adapter.weights == "somebody/their-llava"


@pytest.mark.parametrize("name", ["./no-such-folder", "../nothing", "-dash/model", "two--dashes/model", "dot./model."])
def test_a_name_that_no_repository_can_have_is_an_unknown_model(name: str) -> None:
    with pytest.raises(UnknownNameError, match="no model"):
        find(name)


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the hub has it: weights, tokenizer, image processor with its limits, chat template."""
    folder = tmp_path_factory.mktemp("my-qwen")
    adapter = tiny("qwen2.5-vl")
    adapter.model.save_pretrained(folder)  # type: ignore[operator]
    config = adapter.config
    special = {
        "<|vision_start|>": config.vision_start_token_id,
        "<|vision_end|>": config.vision_end_token_id,
        "<|image_pad|>": config.image_token_id,
        "<|video_pad|>": config.video_token_id,
    }
    words = {"<unk>": 0, "user": 1, "assistant": 2, "what": 3, "is": 4, "there": 5, "?": 6}
    plain = Tokenizer(WordLevel({**words, **special}, unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, additional_special_tokens=list(special))
    tokenizer.save_pretrained(folder)
    template = (
        "user {% for part in messages[0]['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}"
        "<|vision_start|><|{{ part['type'] }}_pad|><|vision_end|>{% endif %}{% endfor %} assistant"
    )
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    limits = {"min_pixels": 16 * 64, "max_pixels": 20 * 64, "patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(limits))
    return folder


@pytest.mark.parametrize("workload", [Workload(image_count=2, batch=2), Workload(frames=3)], ids=["pictures", "video"])
def test_a_folders_own_tokenizer_template_and_limits_are_used(qwen_folder: Path, workload: Workload) -> None:
    adapter = load(str(qwen_folder))
    assert adapter.shape.max_pixels == 20 * 64
    prepared = adapter.prepare(workload.model_copy(update={"prompt": "what is there?"}))
    text = adapter.tokenizer.convert_ids_to_tokens(prepared.input_ids[0, prepared.text_index][-5:].tolist())
    assert text == ["what", "is", "there", "?", "assistant"]
    assert max(block.patches for block in prepared.layout.blocks) <= 20
    inputs = adapter.forward_inputs(prepared)
    with torch.no_grad():
        expected = adapter.model(**inputs, output_hidden_states=True).hidden_states[0]
        torch.testing.assert_close(adapter.embeddings(prepared), expected)


def test_a_placeholder_in_the_prompt_is_refused(qwen_folder: Path) -> None:
    adapter = load(str(qwen_folder))
    with pytest.raises(WorkloadError, match="2 pictures instead of 1"):
        adapter.prepare(Workload(prompt="what is <|image_pad|> ?"))
