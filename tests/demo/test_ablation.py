from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.demo_ablation import LAST, begun, standing_out, variant
from tokprof.demo import LLAVA_NEXT_FOLDER
from tokprof.demo.learning import any_subset, drop
from tokprof.demo.plan import LLAVA_NEXT
from tokprof.demo.train import progress_bars, run_stage


def test_subsets_prefer_what_stands_out_only_where_asked() -> None:
    visual = torch.zeros(64, 20, 4)
    visual[:, 3] = 5.0
    rng = np.random.default_rng(0)
    for choose, often in ((standing_out, True), (any_subset, False)):
        places = choose(visual, 5, rng)
        assert places.shape == (64, 5) and bool((places.diff(dim=1) > 0).all()), "ascending, none twice"
        share = (places == 3).any(dim=1).float().mean().item()
        assert (share > 0.85) == often


def test_variants_differ_from_the_plan_in_dropout_alone() -> None:
    assert variant("uniform", seed=0) == (LLAVA_NEXT, False)
    assert variant("standing-out", seed=0) == (LLAVA_NEXT, True)
    plan, biased = variant("none", seed=0)
    assert not biased and plan.stages[:LAST] == LLAVA_NEXT.stages[:LAST]
    visual = torch.zeros(2, 744, 1)
    for seed in range(20):
        seen, _ = drop(visual, plan.stages[LAST], 5, np.random.default_rng(seed))
        assert seen.shape[1] == 744


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="training needs torch 2.9")
def test_it_starts_where_the_last_stage_did(tmp_path: Path) -> None:
    plan, _ = variant("standing-out", seed=0)
    learner = begun(plan, LLAVA_NEXT_FOLDER.parent / "llava")
    learner.choose = standing_out
    before = learner.model.lm_head.weight.clone()
    with progress_bars(quiet=True) as progress:
        run_stage(learner, plan.shortened(1), LAST, tmp_path, "cpu", progress)
    assert not torch.equal(before, learner.model.lm_head.weight)
