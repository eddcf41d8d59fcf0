from __future__ import annotations

import math

import pytest
import torch

from tokprof import diagnostics


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def test_states_that_only_grow_are_alike() -> None:
    states = noise(1, 2, 5, 8) * torch.tensor([1.0, 2.0, 4.0])[:, None, None, None]
    torch.testing.assert_close(diagnostics.intra_modal_similarity(states), torch.ones(2))
    turned = torch.stack((states[0], -states[0]))
    torch.testing.assert_close(diagnostics.intra_modal_similarity(turned), torch.tensor([-1.0]))


def test_intra_modal_similarity_by_hand() -> None:
    states = noise(3, 2, 4, 6)
    for layer in range(2):
        pairs = [
            cosine(states[layer, s, t].tolist(), states[layer + 1, s, t].tolist()) for s in range(2) for t in range(4)
        ]
        assert diagnostics.intra_modal_similarity(states)[layer].item() == pytest.approx(sum(pairs) / 8, abs=1e-5)


def test_cross_modal_change_by_hand() -> None:
    states, reference = noise(2, 3, 4, 6), noise(2, 4, 6, seed=1)
    change = diagnostics.cross_modal_change(states, reference)
    for layer in range(2):
        alike = [cosine(states[layer, s].flatten().tolist(), reference[layer].flatten().tolist()) for s in range(3)]
        assert change[layer].item() == pytest.approx(1 - sum(alike) / 3, abs=1e-5)
    same = diagnostics.cross_modal_change(reference[:, None].expand(-1, 3, -1, -1), reference)
    torch.testing.assert_close(same, torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("window", "top"), [(1, 3), (2, 1), (4, 10)])
def test_ilvas_by_hand(window: int, top: int) -> None:
    attention = noise(6, 4, 10).softmax(dim=-1)
    curve = diagnostics.ilvas(attention, window, top)
    assert curve.shape == (6 - window,)
    for layer in range(6 - window):
        received = attention[layer].mean(dim=0)
        most = sorted(range(10), key=lambda token: -float(received[token]))[:top]
        alike = [
            cosine(attention[layer, :, token].tolist(), attention[layer + window, :, token].tolist()) for token in most
        ]
        assert curve[layer].item() == pytest.approx(sum(alike) / top, abs=1e-5)


def test_where_curves_turn() -> None:
    curve = [0.1, 0.5, 0.3, 0.3, 0.7, 0.2, 0.9]
    assert diagnostics.local_maxima(curve) == [1, 4]
    assert diagnostics.local_minima(torch.tensor(curve)) == [5]
    assert diagnostics.local_maxima([1.0, 2.0]) == []


def test_where_an_early_exit_costs_nothing() -> None:
    assert diagnostics.exit_plateau([0.1, 0.4, 0.9, 0.88, 0.9], tolerance=0.03) == 2
    assert diagnostics.exit_plateau([0.9, 0.4, 0.9], tolerance=0.0) == 2
    assert diagnostics.exit_plateau([0.9, 0.9], tolerance=0.0) == 0
    assert diagnostics.exit_plateau([], tolerance=0.1) is None


def test_concentration_rises_to_one() -> None:
    held = diagnostics.concentration(torch.tensor([0.1, 0.6, 0.3]))
    torch.testing.assert_close(held, torch.tensor([0.6, 0.9, 1.0]))
