"""Measuring in a process of its own, with the code of its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.gate.made import BASE
from tokprof import demo
from tokprof.errors import MachineError
from tokprof.measure.apart import (
    CrashError,
    Place,
    can_take_turns,
    measure_alone,
    measure_apart,
    measure_in_turns,
    recipes_of,
)
from tokprof.recipe import Cell, Measurement, Method, Recipe, Setting, Workload
from tokprof.record import RunRecord, write_records


def test_cells_that_differ_by_method_share_a_recipe() -> None:
    recipe = Recipe(
        models=("demo",),
        methods=(Method(name="fastv", parameters={"keep": 0.25}), Method(name="vtw")),
        workloads=(Workload(), Workload(batch=2)),
    )
    found = recipes_of(recipe.cells())
    assert [len(each.methods) for each in found] == [2, 2]
    assert [cell for each in found for cell in each.cells()] == list(recipe.cells())


FAKE_PROFILER = """
import os, signal
from pathlib import Path
from tokprof.errors import MachineError
from tokprof.record import read_records
def profile(recipe):
    method = recipe.methods[0].name
    if method == "vtw":
        raise MachineError("too small", "buy a larger one")
    if method == "random":
        os.kill(os.getpid(), signal.SIGKILL)
    if method == "dense":
        raise ZeroDivisionError("a bug")
    (record,) = read_records(Path({path!r})).records
    return [record.model_copy(update={{"cell": cell}}) for cell in recipe.cells()]
"""


@pytest.fixture
def fake_checkout(tmp_path: Path) -> Place:
    """A folder whose tokprof has another profiler: what a child process imports is decided by its place."""
    write_records(tmp_path / "made.json", [BASE])
    package = tmp_path / "tokprof"
    package.mkdir()
    real = Path(__file__).parents[2] / "tokprof"
    for name in ("__init__.py", "errors.py", "recipe.py", "record.py", "atomic.py"):
        (package / name).write_text((real / name).read_text(encoding="utf-8"), encoding="utf-8")
    text = FAKE_PROFILER.format(path=str(tmp_path / "made.json"))
    (package / "profiler.py").write_text(text, encoding="utf-8")
    return Place(folder=tmp_path, package=tmp_path)


def cell(method: str) -> Cell:
    return BASE.cell.model_copy(update={"method": Method(name=method)})


def test_a_child_measures_with_the_code_of_its_place(fake_checkout: Place) -> None:
    (record,) = measure_apart([cell("fastv")], fake_checkout)
    assert record.policy == BASE.policy and record.cell == cell("fastv")


def test_what_goes_wrong_in_a_child_is_told_here(fake_checkout: Place) -> None:
    with pytest.raises(MachineError, match="too small") as refused:
        measure_apart([cell("vtw")], fake_checkout)
    assert refused.value.hint == "buy a larger one"
    with pytest.raises(MachineError, match="killed \\(signal 9\\)"):
        measure_apart([cell("random")], fake_checkout)
    with pytest.raises(MachineError, match="ZeroDivisionError: a bug"):
        measure_apart([cell("dense")], fake_checkout)


def test_a_checkout_from_before_there_were_turns_takes_none(fake_checkout: Place) -> None:
    assert can_take_turns(Place(), Place()) and not can_take_turns(Place(), fake_checkout)


@pytest.mark.parametrize("failing,expected", [("vtw", MachineError), ("random", MachineError), ("dense", CrashError)])
def test_of_two_at_once_the_first_failure_ends_both(
    failing: str, expected: type[MachineError], fake_checkout: Place, tmp_path: Path
) -> None:
    """The other one waits for its turn as long as its partner lives, and would then go on alone."""
    patient = tmp_path / "patient"
    shutil.copytree(tmp_path / "tokprof", patient / "tokprof")
    text = "import time\ndef profile(recipe):\n    time.sleep(600)\n"
    (patient / "tokprof" / "profiler.py").write_text(text, encoding="utf-8")
    waiting = Place(folder=patient, package=patient)
    for places in ((fake_checkout, waiting), (waiting, fake_checkout)):
        with pytest.raises(expected, match="too small" if failing == "vtw" else "killed|a bug"):
            measure_in_turns([cell(failing)], *places)


@pytest.mark.slow
def test_two_real_processes_take_turns() -> None:
    wanted = Cell(
        model=str(Path(demo.__file__).parent / "llava"),
        method=Method(name="fastv"),
        workload=Workload(new_tokens=1),
        setting=Setting(device="cpu"),
        measurement=Measurement(rounds=4, warmup_rounds=1, parity=False, memory=False, activity=False),
    )
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    (one,), (two,) = measure_in_turns([wanted], Place(), Place())
    assert one.policy.samples.rounds == two.policy.samples.rounds == 4
    assert one.policy.tokens == two.policy.tokens
    assert not before or len(os.listdir("/proc/self/fd")) == before, "every pipe is closed"


def test_isolated_cells_keep_their_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def measure(cells: Sequence[Cell]) -> list[RunRecord]:
        asked.extend(each.measurement.isolate for each in cells)
        return [BASE]

    monkeypatch.setattr("tokprof.measure.apart.measure_apart", measure)
    record = measure_alone(BASE.cell.model_copy(update={"measurement": Measurement(isolate=True)}))
    assert asked == [False] and record.cell.measurement.isolate and record.key != BASE.key
