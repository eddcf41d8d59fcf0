"""Attention on demand against the whole matrix, computed the slow way in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tokprof.engine import attention
from tokprof.engine.attention import causal_mask, mean_attention

BATCH, HEADS, KEY_HEADS, LENGTH, HEAD_DIM = 2, 4, 2, 11, 8


@pytest.fixture(scope="module")
def states() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(BATCH, HEADS, LENGTH, HEAD_DIM, generator=generator)
    keys = torch.randn(BATCH, KEY_HEADS, LENGTH, HEAD_DIM, generator=generator)
    return queries, keys


def matrix(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    keys = keys.double().repeat_interleave(HEADS // KEY_HEADS, dim=1)
    scores = queries.double() @ keys.transpose(2, 3) * 0.3
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    return scores.masked_fill(~causal, float("-inf")).softmax(-1)


@pytest.mark.parametrize("chunk_bytes", [1, 64 << 20])
def test_rows_of_the_causal_matrix(states: tuple, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "CHUNK_BYTES", chunk_bytes)
    queries, keys = states
    rows, columns = torch.tensor([[2, 5, 9], [3, 4, 10]]), torch.tensor([[0, 1, 2, 3], [1, 3, 5, 7]])
    chosen = queries.gather(2, rows[:, None, :, None].expand(-1, HEADS, -1, HEAD_DIM))
    found = mean_attention(chosen, keys, 0.3, row_places=rows, columns=columns)
    for sample in range(BATCH):
        expected = matrix(queries, keys)[sample][:, rows[sample]][:, :, columns[sample]].mean((0, 1))
        torch.testing.assert_close(found[sample].double(), expected, rtol=1e-5, atol=1e-7)


def test_weights_and_heads(states: tuple) -> None:
    queries, keys = states
    rows = torch.arange(LENGTH).expand(BATCH, -1)
    weights = torch.rand(BATCH, LENGTH, generator=torch.Generator().manual_seed(1))
    found = mean_attention(queries, keys, 0.3, row_places=rows, columns=rows[:, :5], weights=weights, mean_heads=False)
    expected = (matrix(queries, keys)[..., :5] * weights[:, None, :, None]).sum(2)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_softmax_over_the_columns_alone(states: tuple) -> None:
    queries, keys = states
    columns = torch.tensor([[1, 4, 6]]).expand(BATCH, -1)
    found = mean_attention(queries[:, :, -1:], keys, 0.3, row_places=None, columns=columns, over="columns")
    torch.testing.assert_close(found.sum(-1), torch.ones(BATCH))
    wide = matrix(queries, keys)[:, :, -1].gather(2, columns[:, None].expand(-1, HEADS, -1))
    expected = (wide / wide.sum(-1, keepdim=True)).mean(1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)


def test_the_mask_hides_what_comes_later() -> None:
    mask = causal_mask(2, 3, torch.zeros(1))
    assert (mask[0, 0] == 0).tolist() == [[True] * 4 + [False], [True] * 5]


def test_weights_of_each_row_and_column(states: tuple) -> None:
    queries, keys = states
    rows = torch.arange(LENGTH).expand(BATCH, -1)
    weights = torch.rand(BATCH, LENGTH, 5, generator=torch.Generator().manual_seed(2))
    found = mean_attention(queries, keys, 0.3, row_places=rows, columns=rows[:, :5], weights=weights)
    expected = (matrix(queries, keys)[..., :5] * weights[:, None]).sum(2).mean(1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["fastv", "pdrop", "sparsevlm", "visiondrop", "visionzip", "fastervlm", "hired"])
def test_the_official_way_selects_the_same(name: str) -> None:
    """Whole matrices or single rows: the tokens that stay are the same ones."""
    from tests.models.tiny import tiny
    from tokprof import policies
    from tokprof.engine.request import run_request
    from tokprof.measure.clock import NoClock
    from tokprof.recipe import Workload

    adapter = tiny("llava-next")
    prepared = adapter.prepare(Workload())  # type: ignore[call-arg]
    policy = policies.build(name, keep=0.4)
    ours, theirs = (
        run_request(adapter, policy, prepared, NoClock(), 2, official_scores=official) for official in (False, True)
    )
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-5, atol=1e-6)
    assert [kept.stop for kept in ours.kept] == [kept.stop for kept in theirs.kept]
    assert all(torch.equal(a.origin, b.origin) for a, b in zip(ours.kept, theirs.kept, strict=True))


def test_torchs_own_flash_kernel_stands_aside_only_for_masks() -> None:
    """Never for the kernel that makes whole matrices."""
    with attention.backend("flash-sdpa"):
        assert torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.mem_efficient_sdp_enabled()
        assert not torch.backends.cuda.math_sdp_enabled()
    assert torch.backends.cuda.math_sdp_enabled()


@pytest.mark.parametrize(("kernels", "masked"), [("sdpa", True), ("flash-sdpa", True), ("flash_attention_2", False)])
def test_who_reads_compressed_tokens_needs_a_mask(kernels: str, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """flash-attn counts causality from the last key back, and takes none."""
    from tests.models.tiny import build_tiny
    from tokprof import policies
    from tokprof.engine.request import run_request
    from tokprof.measure.clock import NoClock
    from tokprof.recipe import Workload

    adapter = build_tiny("llava")
    prepared, masks, run_layer = adapter.prepare(Workload()), [], adapter.decoder.run_layer  # type: ignore[call-arg]

    def noted(*arguments: Any) -> torch.Tensor:
        masks.append(arguments[-1])
        return run_layer(*arguments)

    monkeypatch.setattr(adapter.decoder, "run_layer", noted)
    run_request(adapter, policies.build("voco_llama", tokens=2), prepared, NoClock(), 1, attention=kernels)
    first, second = masks[: adapter.decoder.depth], masks[adapter.decoder.depth :]
    assert all(mask is None for mask in first)
    assert all((mask is not None) == masked for mask in second) and len(second) == len(first)
