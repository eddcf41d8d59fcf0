from __future__ import annotations

import math

import pytest
import torch

from tokprof.errors import ParameterError
from tokprof.policies.vtw import search_exit_layer, withdrawal_divergence


def test_the_first_layer_that_is_good_enough() -> None:
    divergence = {4: 0.0001, 5: 0.01, 6: 0.002, 7: 0.005, 8: 0.001}
    assert search_exit_layer(divergence, eta=0.003) == 6  # 4 lies before the search begins
    assert search_exit_layer(divergence, eta=0.0015) == 8


def test_it_says_so_when_no_layer_reaches_eta() -> None:
    with pytest.raises(ParameterError) as found:
        search_exit_layer({5: 0.02, 6: 0.01}, eta=0.003)
    assert "0.01" in found.value.hint and "layer 6" in found.value.hint
    with pytest.raises(ParameterError):
        search_exit_layer({}, eta=0.003)


def test_divergence_is_of_the_withdrawn_from_the_full_answer() -> None:
    full, withdrawn = torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[0.5, 0.5]]).log()
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert withdrawal_divergence(full, withdrawn).item() == pytest.approx(expected, abs=1e-6)
    assert withdrawal_divergence(full, full).item() == pytest.approx(0.0, abs=1e-7)
