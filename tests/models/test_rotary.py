"""M-RoPE positions against Hugging Face's `get_rope_index`."""

from __future__ import annotations

import pytest
import torch
from transformers.vision_utils import get_vision_window_index

from tests.models.tiny import tiny, workloads_for
from tokprof.models.native import windows


@pytest.mark.parametrize("family", ["qwen2-vl", "qwen2.5-vl"])
@pytest.mark.parametrize("name", ["picture", "tall", "several", "batch", "video", "video-batch"])
def test_positions(family: str, name: str) -> None:
    adapter = tiny(family)
    prepared = adapter.prepare(workloads_for(family)[name])
    inputs = adapter.forward_inputs(prepared)
    grids = {key: inputs[key] for key in ("image_grid_thw", "video_grid_thw") if key in inputs}
    expected, deltas = adapter.inner.get_rope_index(
        prepared.input_ids, mm_token_type_ids=inputs["mm_token_type_ids"], **grids
    )
    assert torch.equal(prepared.positions, expected)
    assert set((deltas + prepared.input_ids.shape[1]).flatten().tolist()) == {prepared.next_position}


def test_windows_are_hugging_faces() -> None:
    adapter = tiny("qwen2.5-vl")
    prepared = adapter.prepare(workloads_for("qwen2.5-vl")["several"])
    vision = adapter.shape.vision
    order, bounds = get_vision_window_index(
        prepared.tensors["image_grid_thw"], vision.merge_side, vision.window_px, vision.patch_px
    )
    ours, lengths = windows(prepared.layout, vision)
    assert ours == order.tolist()
    assert lengths == bounds.diff().tolist()


@pytest.mark.parametrize("family", ["llava", "onevision"])
def test_other_families_count(family: str) -> None:
    prepared = tiny(family).prepare(workloads_for(family)["batch"])
    length = prepared.input_ids.shape[1]
    assert torch.equal(prepared.positions, torch.arange(length).expand(2, -1))
    assert prepared.next_position == length
