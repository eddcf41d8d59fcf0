"""The tower run block by block, projected and packed, against Hugging Face's own embeddings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.vision_utils import get_vision_position_ids

from tests.models.tiny import TINY, build_tiny, tiny, workloads_for
from tokprof.models.adapter import VisionStates
from tokprof.models.huggingface import HuggingFaceAdapter
from tokprof.policies.base import Edit
from tokprof.recipe import Workload
from tokprof.workload import synthetic_picture

CLIP_FAMILIES = ("llava", "llava-next", "video-llava")
CASES = [(family, name) for family in TINY for name in workloads_for(family)]


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


def first_hidden(adapter: HuggingFaceAdapter, inputs: dict[str, Any]) -> Tensor:
    """What the first decoder layer of Hugging Face's forward receives."""
    hidden: Tensor = adapter.model(**inputs, output_hidden_states=True).hidden_states[0]
    return hidden


@pytest.mark.parametrize(("family", "name"), CASES)
def test_embeddings_are_hugging_faces(family: str, name: str) -> None:
    adapter = tiny(family)
    prepared = adapter.prepare(workloads_for(family)[name])
    ours = adapter.embeddings(prepared)
    torch.testing.assert_close(ours, first_hidden(adapter, adapter.forward_inputs(prepared)), rtol=1e-5, atol=1e-5)
    assert len(prepared.visual_index) == prepared.layout.count
    visual = ours[:, prepared.visual_index]
    assert visual.std() > 0.1, "pictures must matter"
    if prepared.batch > 1:
        assert not torch.equal(visual[0], visual[1]), "samples of a batch differ"


def test_video_llava_pictures(tmp_path: Path) -> None:
    adapter = tiny("video-llava")
    synthetic_picture((60, 40), 1).save(tmp_path / "a.png")
    prepared = adapter.prepare(Workload(images=(str(tmp_path / "a.png"),), batch=2))
    assert prepared.layout.count == adapter.shape.vision.patches
    expected = first_hidden(adapter, adapter.forward_inputs(prepared))
    torch.testing.assert_close(adapter.embeddings(prepared), expected, rtol=1e-5, atol=1e-5)


def test_the_fixed_grid_shows_the_tiles_that_hugging_face_makes() -> None:
    """A square picture has the same tiles either way; the newlines are all that is missing."""
    adapter = tiny("llava-next")
    native = adapter.prepare(Workload(image_size=(96, 96)))
    fixed = adapter.prepare(Workload(image_size=(96, 96), anyres="fixed"))
    every = first_hidden(adapter, adapter.forward_inputs(native))[:, native.visual_index]
    ours = adapter.embed_visual(adapter.encode(fixed), fixed)
    torch.testing.assert_close(ours, every[:, native.candidates], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", [name for name in TINY if tiny(name).projects_by_token])
def test_tokens_project_one_by_one_where_an_adapter_says_so(family: str) -> None:
    adapter = tiny(family)
    prepared = adapter.prepare(Workload(image_size=(64, 40), batch=2))
    states = adapter.encode(prepared)
    projected = adapter.project(adapter.spread(states.features, prepared))
    torch.testing.assert_close(projected, adapter.embed_visual(states, prepared)[:, prepared.candidates])


@pytest.mark.parametrize("family", TINY)
def test_spread_follows_the_tokens(family: str) -> None:
    """A constant stays constant, and every token of a sample gets a number."""
    adapter = tiny(family)
    for name in ("picture", "batch", "video"):
        if name not in workloads_for(family):
            continue
        prepared = adapter.prepare(workloads_for(family)[name])
        states = adapter.encode(prepared)
        spread = adapter.spread(torch.full_like(states.features, 0.5), prepared)
        assert spread.shape == (prepared.batch, prepared.layout.patches, adapter.shape.vision.width)
        torch.testing.assert_close(spread, torch.full_like(spread, 0.5))


@pytest.fixture(scope="module")
def eager_attentions() -> dict[str, tuple[VisionStates, tuple[Tensor, ...]]]:
    """Per CLIP family: our states with every block watched, and Hugging Face's attention matrices."""
    found = {}
    with torch.no_grad():
        for family in (*CLIP_FAMILIES, "onevision"):
            adapter = build_tiny(family, attention="eager")
            prepared = adapter.prepare(workloads_for(family).get("video", Workload(image_size=(64, 40))))
            pixels = prepared.tensors.get("pixel_values_videos", prepared.tensors.get("pixel_values"))
            assert pixels is not None
            inner: Any = adapter.model.model
            tower = inner.video_tower if family == "video-llava" else inner.vision_tower
            tiles = pixels.flatten(0, 1) if pixels.dim() == 5 else pixels
            matrices = tower(tiles, output_attentions=True).attentions
            found[family] = adapter, adapter.encode(prepared, range(adapter.shape.vision.depth)), matrices
    return found


@pytest.mark.parametrize("family", CLIP_FAMILIES)
def test_class_token_rows_are_rows_of_the_matrix(family: str, eager_attentions: dict[str, Any]) -> None:
    adapter, states, matrices = eager_attentions[family]
    for layer, matrix in enumerate(matrices):
        row = adapter.cls_attention(states, layer, logits=False)
        torch.testing.assert_close(row, matrix[:, :, 0, 1:], rtol=1e-4, atol=1e-6)
        logits = adapter.cls_attention(states, layer, logits=True)
        torch.testing.assert_close(logits.softmax(-1), row / row.sum(-1, keepdim=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", [*CLIP_FAMILIES, "onevision"])
def test_received_attention_is_the_mean_of_the_columns(
    family: str, eager_attentions: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, states, matrices = eager_attentions[family]
    monkeypatch.setattr("tokprof.models.tower.CHUNK", 5000)  # several chunks
    first = int(adapter.shape.vision.cls_token)
    for layer, matrix in enumerate(matrices):
        expected = matrix[:, :, first:, first:].mean(dim=(1, 2))
        torch.testing.assert_close(adapter.received_attention(states, layer), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["qwen2-vl", "qwen2.5-vl"])
def test_native_towers_tell_attention_in_the_pictures_order(family: str) -> None:
    """Against one whole softmax, masked by picture and, in a windowed block, by window."""
    adapter = tiny(family)
    prepared = adapter.prepare(Workload(image_count=2))
    vision = adapter.shape.vision
    states = adapter.encode(prepared, range(vision.depth))
    tower, block = adapter.inner.visual, adapter.inner.visual.blocks[0]
    embedded = tower.patch_embed(prepared.tensors["pixel_values"])
    projected = block.attn.qkv(block.norm1(embedded)).view(len(embedded), 3, vision.heads, -1)
    queries, keys, _ = projected.unbind(1)
    torch.testing.assert_close(adapter.patch_keys(states, 0)[0], keys.flatten(1), rtol=1e-4, atol=1e-5)

    places = get_vision_position_ids(prepared.tensors["image_grid_thw"], vision.merge_side)
    rotate = sys.modules[type(block).__module__].apply_rotary_pos_emb_vision
    queries, keys = rotate(queries, keys, *tower.rotary_pos_emb(embedded, places))
    group = torch.tensor(
        [index for index, image in enumerate(prepared.layout.blocks) for _ in range(4 * image.patches)]
    )
    if vision.window_px:
        side = vision.window_px // vision.patch_px
        group = group * 10_000 + places[:, 0] // side * 100 + places[:, 1] // side
    scores = torch.einsum("qhd,khd->hqk", queries, keys) * block.attn.scaling
    scores = scores.masked_fill(group[:, None] != group, float("-inf")).softmax(-1)
    asking = (group[:, None] == group).sum(0)
    expected = scores.sum(1).mean(0) / asking
    received = adapter.received_attention(states, 0)
    torch.testing.assert_close(received[0], expected, rtol=1e-4, atol=1e-6)
    per_token = adapter.spread(received, prepared)
    torch.testing.assert_close(per_token[0], expected.view(-1, 4).mean(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["llava", "onevision"])
class TestMergingInsideTheTower:
    def encode(self, family: str, edit: Any, stops: tuple[int, ...] = (0, 1)) -> tuple[Any, Any, VisionStates]:
        adapter = tiny(family)
        prepared = adapter.prepare(workloads_for(family).get("video", Workload(image_size=(64, 40), batch=2)))
        return adapter, prepared, adapter.encode(prepared, (), stops, edit)

    def test_keeping_everything_changes_nothing(self, family: str) -> None:
        def keep_all(block: int, tokens: Tensor, keys: Any, sizes: Tensor) -> Edit:
            assert keys().shape == (*tokens.shape[:2], tokens.shape[2] // 4)
            assert torch.equal(sizes, torch.ones_like(sizes))
            return Edit(torch.arange(tokens.shape[1]).expand(len(tokens), -1))

        adapter, prepared, states = self.encode(family, keep_all)
        torch.testing.assert_close(states.features, adapter.encode(prepared).features, rtol=1e-4, atol=1e-5)
        assert states.merged

    def test_a_merged_token_counts_as_often_as_it_stands_for_patches(self, family: str) -> None:
        """Two equal tokens, or one of size two: the attention of all others is the same (ToMe, eq. 1)."""

        def doubled(block: int, tokens: Tensor, keys: Any, sizes: Tensor) -> Edit:
            first = torch.zeros(len(tokens), tokens.shape[1], dtype=torch.long)
            first[:, 1:] = torch.arange(1, tokens.shape[1])
            first[:, 1] = 0
            return Edit(first, values=tokens.gather(1, first[..., None].expand_as(tokens)))

        def merged(block: int, tokens: Tensor, keys: Any, sizes: Tensor) -> Edit:
            keep = torch.tensor([0, *range(2, tokens.shape[1])]).expand(len(tokens), -1)
            weights = torch.ones_like(keep, dtype=tokens.dtype)
            weights[:, 0] = 2
            return Edit(keep, sizes=weights)

        _, _, twice = self.encode(family, doubled, (0,))
        adapter, prepared, once = self.encode(family, merged, (0,))
        torch.testing.assert_close(once.features[:, 1:], twice.features[:, 2:], rtol=1e-4, atol=1e-5)
        visual = adapter.embed_visual(once, prepared)
        tiles = prepared.layout.tower_passes
        assert visual.shape[:2] == (prepared.batch, tiles * (adapter.shape.vision.patches - 1))
