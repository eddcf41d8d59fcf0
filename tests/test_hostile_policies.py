"""Files of the user's own that keep no promise: said in two lines, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tokprof import policies
from tokprof.engine.stream import verify
from tokprof.errors import BrokenPromiseError, InputError
from tokprof.models import catalog
from tokprof.policies.base import Edit, Plan, Policy, Scene
from tokprof.recipe import Workload
from tokprof.workload import scene_of

TOKENS = torch.zeros(2, 6, 4)
KEEP = torch.tensor([[0, 2, 5], [1, 2, 3]])

BROKEN_EDITS: dict[str, tuple[Callable[[], Any], str]] = {
    "no edit": (lambda: KEEP, "decided by a Tensor"),
    "a list": (lambda: Edit([[0, 1]]), "not a (batch, kept) tensor"),  # type: ignore[arg-type]
    "switches": (lambda: Edit(torch.ones(2, 6, dtype=torch.bool)), "not a (batch, kept) tensor"),
    "one sample of two": (lambda: Edit(KEEP[:1]), "has 1 rows"),
    "another device": (lambda: Edit(KEEP.to("meta")), "on meta"),
    "too far": (lambda: Edit(KEEP + 1), "outside the 6 tokens"),
    "negative": (lambda: Edit(KEEP - 1), "outside the 6 tokens"),
    "the same twice": (lambda: Edit(KEEP * 0), "not ascending and unique"),
    "values of another width": (lambda: Edit(KEEP, values=torch.zeros(2, 3, 5)), "Edit.values is (2, 3, 5)"),
    "values of another kind": (lambda: Edit(KEEP, values=torch.zeros(2, 3, 4).double()), "of torch.float64"),
    "a list of values": (lambda: Edit(KEEP, values=[1]), "Edit.values is list"),  # type: ignore[arg-type]
    "extras of another width": (lambda: Edit(KEEP, extra=torch.zeros(2, 1, 5)), "Edit.extra is (2, 1, 5)"),
    "a pivot that was dropped long ago": (lambda: Edit(KEEP, pivot=torch.tensor([0, 6])), "Edit.pivot"),
    "a pivot for one sample of two": (lambda: Edit(KEEP, pivot=torch.tensor([0])), "Edit.pivot"),
    "a pivot of no tensor": (lambda: Edit(KEEP, pivot=0), "Edit.pivot"),  # type: ignore[arg-type]
    "everything dropped too early": (Edit.drop_all, "before the decoder"),
}


@pytest.mark.parametrize("name", BROKEN_EDITS)
def test_edits_that_break_their_promise(name: str) -> None:
    edit, expected = BROKEN_EDITS[name]
    with pytest.raises(BrokenPromiseError) as caught:
        verify(edit(), TOKENS)
    assert expected in caught.value.message and caught.value.hint


def test_edits_that_hold() -> None:
    verify(Edit(KEEP, values=torch.zeros(2, 3, 4), extra=torch.zeros(2, 1, 4), pivot=torch.tensor([0, 5])), TOKENS)
    verify(Edit(KEEP.flip(1), reordered=True), TOKENS)
    verify(Edit.drop_all(), TOKENS, may_drop_all=True)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return scene_of(Workload(), catalog.find("llava-1.5-7b"))  # type: ignore[call-arg]


@pytest.mark.parametrize("plan", [None, (3,) * 32, Plan(layers=()), Plan(layers=(3,)), Plan(layers=(-3,) * 32)])
def test_plans_that_say_nothing(plan: Any, scene: Scene) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Aimless(Policy):
        name = "aimless"

        def plan(self, scene: Scene) -> Plan:
            found: Plan = plan
            return found

    with pytest.raises(BrokenPromiseError, match="aimless: its plan does not say"):
        Aimless(keep=0.5).schedule(scene)


START = "from tokprof.policies.base import Policy\n"
BROKEN_FILES = {
    "raises": ("1 / 0", "ZeroDivisionError"),
    "leaves": ("raise SystemExit(0)", "SystemExit"),
    "empty": ("", "defines no policy"),
    "nameless": (f"{START}class Mine(Policy):\n    name = 5\n", "defines no policy"),
    "needs_words": (
        f"{START}class Mine(Policy):\n    name = 'mine'\n    needs = ['keys']\n",
        "`needs` is no frozenset",
    ),
    "own_start": (f"{START}class Mine(Policy):\n    name = 'mine'\n    def __init__(self): ...\n", "cannot be built"),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_files_that_cannot_be_loaded(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text(BROKEN_FILES[name][0])
    with pytest.raises(InputError) as caught:
        policies.build(str(path), keep=0.5)
    assert BROKEN_FILES[name][1] in caught.value.message and caught.value.hint


def test_where_an_own_file_failed_is_said(tmp_path: Path, scene: Scene) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        f"{START}class Mine(Policy):\n    name = 'mine'\n    def plan(self, scene):\n        return 1 / 0\n"
    )
    policy = policies.build(str(path), keep=0.5)
    with pytest.raises(ZeroDivisionError) as caught:
        policy.schedule(scene)
    assert policies.is_own_file(policy)
    assert policies.place_in_own_file(caught.value) == f"{path} line 5"


def test_our_own_failures_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / Tensor.__len__(torch.zeros(0))
    assert policies.place_in_own_file(caught.value) is None
