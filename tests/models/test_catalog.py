"""Offline dimensions against the configuration classes that they build."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tokprof.errors import InputError, UnknownNameError, UnsupportedError
from tokprof.models import FAMILIES, classes
from tokprof.models.catalog import Entry, entries, find, names
from tokprof.models.configuration import shape_of
from tokprof.models.drawn import config_of
from tokprof.shapes import ModelShape

ALIASES = {
    "llava-1.5-7b", "llava-1.5-13b", "llava-1.5-mobilellama-2.7b", "llava-next-7b", "llava-next-13b",
    "llava-next-mistral-7b", "llava-onevision-7b", "llava-onevision-0.5b", "qwen2-vl-7b", "qwen2-vl-2b",
    "qwen2.5-vl-7b", "video-llava-7b", "demo",
}  # fmt: skip


def built(shape: ModelShape) -> object:
    config = config_of(shape)
    del config["model_type"]
    return classes(shape.family)[1].config_class(**config)


def test_every_alias_is_there() -> None:
    assert set(names()) == ALIASES
    assert {entry.shape.family for entry in entries()} == set(FAMILIES)


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_a_shape_is_what_the_configuration_class_says(entry: Entry) -> None:
    shape, config = entry.shape, built(entry.shape)
    text, vision, decoder = config.text_config, config.vision_config, shape.decoder
    assert decoder.depth == text.num_hidden_layers
    assert (decoder.width, decoder.ffn) == (text.hidden_size, text.intermediate_size)
    assert (decoder.heads, decoder.kv_heads) == (text.num_attention_heads, text.num_key_value_heads)
    assert decoder.vocab == text.vocab_size
    assert decoder.tied_head == config.tie_word_embeddings
    said = vision.to_dict()
    assert shape.vision.depth == said.get("num_hidden_layers", said.get("depth"))
    assert shape.vision.heads == said.get("num_attention_heads", said.get("num_heads"))
    assert shape.vision.patch_px == vision.patch_size
    assert shape_of(config.to_dict(), entry.name) == shape


def test_defaults_of_the_configuration_classes_are_the_published_models() -> None:
    next_7b = find("llava-next-7b").shape
    default = shape_of(classes("llava_next")[1].config_class().to_dict(), "default")
    assert default.vision == next_7b.vision
    assert default.grids_px == next_7b.grids_px
    assert (default.decoder.depth, default.decoder.width, default.decoder.ffn) == (32, 4096, 11008)
    assert shape_of(classes("llava_onevision")[1].config_class().to_dict(), "default").grids_px == (
        find("llava-onevision-7b").shape.grids_px
    )
    qwen = shape_of(classes("qwen2_vl")[1].config_class().to_dict(), "default")
    assert qwen.vision == find("qwen2-vl-7b").shape.vision


def test_a_sparse_configuration_is_filled_with_defaults() -> None:
    sparse = {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}}
    assert shape_of(sparse, "llava-1.5-7b") == find("llava-1.5-7b").shape


@pytest.mark.parametrize(
    ("name", "hint"), [("llava-nxt-7b", "llava-next-7b"), ("gibberish", "known: "), ("nobody/nothing", "folder")]
)
def test_unknown_names_get_a_hint(name: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        find(name)
    assert hint in caught.value.hint


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        find(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        find(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(UnsupportedError, match="gpt2"):
        find(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(built(find("qwen2.5-vl-7b").shape).to_dict()))
    entry = find(str(tmp_path))
    assert entry.shape.decoder == find("qwen2.5-vl-7b").shape.decoder
    assert entry.folder == tmp_path


def test_the_catalog_needs_no_torch() -> None:
    code = (
        "import sys; from tokprof.models.catalog import find; import tokprof.layout; find('demo');"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
