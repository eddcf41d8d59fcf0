from __future__ import annotations

import pytest
import torch

from tests.policies.views import noise
from tokprof.policies.base import top_indices
from tokprof.policies.dtopk import kept_count, mask, ranks


def test_ranks_by_definition() -> None:
    scores = noise(3, 17)
    expected = (scores[:, :, None] >= scores[:, None, :]).double().mean(dim=-1)
    torch.testing.assert_close(ranks(scores).double(), expected)
    assert ranks(torch.tensor([[1.0, 2.0, 2.0, 0.0]])).tolist() == [[0.5, 1.0, 1.0, 0.25]]


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.25, 0.5, 0.69, 0.99])
def test_forward_is_hard_top_k(ratio: float) -> None:
    scores = noise(4, 100)
    hard = mask(scores, torch.tensor(ratio))
    assert set(hard.unique().tolist()) <= {0.0, 1.0}
    count = kept_count(100, ratio)
    assert torch.equal(hard.sum(dim=-1), torch.full((4,), float(count)))
    expected = torch.zeros_like(scores).scatter(1, top_indices(scores, count), 1.0)
    assert torch.equal(hard, expected)


def test_gradient_is_the_sigmoids() -> None:
    scores, ratio = noise(1, 8), torch.tensor(0.4, requires_grad=True)
    values = torch.arange(8.0)
    (mask(scores, ratio) * values).sum().backward()
    soft_ratio = torch.tensor(0.4, requires_grad=True)
    (torch.sigmoid((ranks(scores) - soft_ratio) * 8) * values).sum().backward()
    torch.testing.assert_close(ratio.grad, soft_ratio.grad)
    assert ratio.grad is not None and ratio.grad < 0  # dropping more keeps less


def test_equal_scores_stay_together() -> None:
    assert mask(torch.ones(1, 6), torch.tensor(0.5)).tolist() == [[1.0] * 6]
