"""Launch-bound stages."""

from __future__ import annotations

from tests.records import make_samples
from tokprof.measure.launch_bound import launch_bound_stages, launch_bound_warning
from tokprof.record import Samples


def test_only_stages_that_matter_and_where_the_host_is_slow() -> None:
    stages = {"vision": 40.0, "project": 0.5, "prefill": 60.0}
    assert launch_bound_stages(make_samples(stages=stages, submit_share=0.3)) == {}
    bound = launch_bound_stages(make_samples(stages=stages, submit_share=0.97))
    assert set(bound) == {"vision", "prefill"}, "half a percent of the request is not worth a word"


def test_the_warning_names_stages_and_remedy() -> None:
    warning = launch_bound_warning("fastv", make_samples(stages={"prefill": 60.0}, submit_share=0.97))
    assert warning is not None and "prefill" in warning and "--batch" in warning
    assert launch_bound_warning("fastv", make_samples()) is None
    assert launch_bound_warning("fastv", Samples(stages={})) is None
