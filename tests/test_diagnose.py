"""The layer diagnostics on a tiny model, against the same numbers by hand."""

from __future__ import annotations

import pytest
import torch

from tests.models.tiny import tiny
from tokprof import policies
from tokprof.diagnose import Diagnosis, diagnose
from tokprof.engine.request import run_request
from tokprof.measure.clock import NoClock
from tokprof.recipe import Workload


@pytest.fixture(scope="module")
def found() -> Diagnosis:
    adapter = tiny("llava-next")
    return diagnose(adapter, [adapter.prepare(Workload())], window=2, top=5)  # type: ignore[call-arg]


def test_one_number_per_stop(found: Diagnosis) -> None:
    depth = tiny("llava-next").shape.decoder.depth
    assert found.stops == tuple(range(1, depth))
    lengths = {len(series) for series in (found.visual_change, found.text_change, found.visual_attention, found.ilvas)}
    assert lengths == {depth - 1}
    assert all(0 <= share <= 1 for share in found.visual_attention)


def test_withdrawal_is_the_divergence_of_an_early_exit(found: Diagnosis) -> None:
    adapter = tiny("llava-next")
    prepared = adapter.prepare(Workload())  # type: ignore[call-arg]
    full, gone = (
        run_request(adapter, policy, prepared, NoClock(), 1).logits.double().log_softmax(-1)
        for policy in (policies.build("dense"), policies.build("vtw", layers=(2,)))
    )
    expected = float((gone.exp() * (gone - full)).sum())
    assert found.withdrawal[1] == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_watching_changes_nothing() -> None:
    from tokprof.diagnose import Observer

    adapter = tiny("llava-next")
    prepared = adapter.prepare(Workload())  # type: ignore[call-arg]
    watched = run_request(adapter, Observer(), prepared, NoClock(), 2)
    plain = run_request(adapter, policies.build("dense"), prepared, NoClock(), 2)
    assert torch.equal(watched.logits, plain.logits)


def test_the_exit_is_found_or_its_absence_explained(found: Diagnosis) -> None:
    assert found.exit_stop(eta=1e9, first=2) == 2
    assert "divergence" in str(found.exit_stop(eta=0.0, first=2))
