"""The order of the methods changes nothing, and a process of its own changes nothing either."""

from __future__ import annotations

import pytest

from tokprof.profiler import profile
from tokprof.recipe import Measurement, Method, Recipe, Workload
from tokprof.record import Arm, RunRecord

FASTV = Method(name="fastv", parameters={"keep": 0.25})
RANDOM = Method(name="random", parameters={"keep": 0.25})
QUICK = Measurement(rounds=2, warmup_rounds=1, parity=False)


def measured(*methods: Method, isolate: bool = False) -> dict[str, RunRecord]:
    recipe = Recipe(
        models=("demo",),
        methods=methods,
        workloads=(Workload(new_tokens=2),),
        measurement=QUICK.model_copy(update={"isolate": isolate}),
    )
    return {record.policy.method: record for record in profile(recipe)}


def exact(arm: Arm) -> tuple[object, ...]:
    """All that a machine's mood cannot change."""
    assert arm.memory is not None
    return arm.tokens, arm.flops, arm.memory.kv_bytes, arm.activity, arm.fidelity, arm.generated


@pytest.fixture(scope="module")
def forwards() -> dict[str, RunRecord]:
    return measured(FASTV, RANDOM)


def test_the_order_of_methods_changes_nothing(forwards: dict[str, RunRecord]) -> None:
    backwards = measured(RANDOM, FASTV)
    for name, record in forwards.items():
        assert exact(record.policy) == exact(backwards[name].policy)
        assert exact(record.baseline) == exact(backwards[name].baseline)


@pytest.mark.slow
def test_a_process_of_its_own_changes_nothing(forwards: dict[str, RunRecord]) -> None:
    apart = measured(FASTV, isolate=True)["fastv"]
    assert exact(apart.policy) == exact(forwards["fastv"].policy)
    assert apart.cell.measurement.isolate
