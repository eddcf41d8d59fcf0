"""The documents' own code and commands are run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.models.tiny import tiny
from tokprof import policies
from tokprof.engine.request import run_request
from tokprof.measure.clock import NoClock
from tokprof.recipe import Workload

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> str:
    text = (DOCS / "adding-a-method.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    path = tmp_path_factory.mktemp("mine") / "longest_first.py"
    path.write_text(code.group(1), encoding="utf-8")
    return str(path)


def test_the_example_method_runs_as_it_planned(example: str) -> None:
    adapter = tiny("llava-next")
    prepared = adapter.prepare(Workload())  # type: ignore[call-arg]
    policy = policies.build(example, keep=0.5)
    outcome = run_request(adapter, policy, prepared, NoClock(), 2, checked=True)
    depth, patches, newlines = prepared.scene.depth, prepared.layout.patches, prepared.layout.newlines
    assert outcome.per_layer[0] == patches // 2 + newlines
    assert outcome.per_layer[depth // 2] == patches // 2 // 2 + newlines


def test_the_example_is_as_short_as_promised(example: str) -> None:
    assert len(Path(example).read_text(encoding="utf-8").splitlines()) <= 60
