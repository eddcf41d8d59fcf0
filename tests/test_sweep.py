from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import tokprof
from tests.records import make_record
from tokprof import profiler, resolve
from tokprof.errors import MachineError
from tokprof.models import catalog
from tokprof.recipe import Cell, Measurement, Method, Recipe, Setting, Workload
from tokprof.record import Failure, RunRecord, cell_key, read_records
from tokprof.sources import changed, model_source, sources_of
from tokprof.sweep import Listener, Store, Sweep, cells_of, measure_cells, run


def recipe(*keeps: float, methods: tuple[str, ...] = ("fastv",), batches: tuple[int, ...] = (1,)) -> Recipe:
    return Recipe(
        models=("demo",),
        methods=tuple(Method(name=name, parameters={"keep": keep}) for name in methods for keep in keeps),
        workloads=tuple(Workload(batch=batch) for batch in batches),  # type: ignore[call-arg]
        measurement=Measurement(rounds=2),  # type: ignore[call-arg]
    )


Measure = Callable[[Cell], RunRecord]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Measure], None]:
    """Replaces the measuring, not the bookkeeping."""

    def install(measure: Measure) -> None:
        def measure_all(cells: list[resolve.Ready], listener: profiler.Listener) -> list[RunRecord]:
            for ready in cells:
                try:
                    record = measure(ready.cell)
                except MachineError as error:
                    assert listener.on_failure is not None
                    listener.on_failure(profiler.failure_of(ready.cell, error))
                    continue
                listener.on_record(record)
            return []

        monkeypatch.setattr(profiler, "measure_all", measure_all)

    return install


def made(cell: Cell) -> RunRecord:
    update = {"cell": cell, "key": cell_key(cell), "sources": sources_of(cell)}
    return make_record(cell.method.name, keep=0.25).model_copy(update=update)


def test_a_finished_cell_is_never_measured_again(tmp_path: Path, pretend: Callable[[Measure], None]) -> None:
    measured: list[Cell] = []

    def measure(cell: Cell) -> RunRecord:
        measured.append(cell)
        return made(cell)

    pretend(measure)
    first = Sweep(cells_of([recipe(0.5, 0.25)]), Store(tmp_path))
    run(first, Listener())
    assert len(measured) == 2 and len(first.results().records) == 2
    more = Sweep(cells_of([recipe(0.5, 0.25), recipe(0.25, 0.1)]), Store(tmp_path))
    assert len(more.cells) == 3 and [cell.method.parameters["keep"] for cell in more.open] == [0.1]
    run(more, Listener())
    assert len(measured) == 3
    assert [record.cell for record in more.results().records] == more.cells


def test_a_model_is_loaded_once_whatever_recipes_ask_of_it(tmp_path: Path) -> None:
    large = recipe(0.5).model_copy(update={"models": ("llava-1.5-7b",)})
    mixed = [recipe(0.5, batches=(1, 2)), large, recipe(0.25, 0.5, batches=(2, 1))]
    seen = [(cell.model, cell.workload.batch, cell.method.parameters["keep"]) for cell in cells_of(mixed)]
    assert seen == [
        *[("demo", 1, 0.5), ("demo", 1, 0.25), ("demo", 2, 0.5), ("demo", 2, 0.25)],
        ("llava-1.5-7b", 1, 0.5),
    ]


def test_a_killed_sweep_loses_only_the_cell_in_flight(tmp_path: Path, pretend: Callable[[Measure], None]) -> None:
    def interrupted(cell: Cell) -> RunRecord:
        if cell.method.parameters["keep"] == 0.25:
            (tmp_path / f".{cell_key(cell)}.json.half").write_text('{"kind": "tokp')
            raise KeyboardInterrupt
        return made(cell)

    pretend(interrupted)
    sweep = Sweep(cells_of([recipe(0.5, 0.25, 0.1)]), Store(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        run(sweep, Listener())
    pretend(made)
    again = Sweep(sweep.cells, Store(tmp_path))
    assert len(again.open) == 2
    run(again, Listener())
    assert len(again.results().records) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{cell_key(c)}.json" for c in sweep.cells)


@pytest.mark.parametrize("error", [MachineError("out of memory in prefill", "lower --batch"), ValueError("a defect")])
def test_one_failing_cell_leaves_its_reason_and_the_rest_goes_on(
    tmp_path: Path, pretend: Callable[[Measure], None], error: Exception
) -> None:
    def measure(cell: Cell) -> RunRecord:
        if cell.method.parameters["keep"] == 0.25:
            raise error
        return made(cell)

    pretend(measure)
    told: list[RunRecord | Failure] = []
    sweep = Sweep(cells_of([recipe(0.5, 0.25, 0.1)]), Store(tmp_path))
    run(sweep, Listener(on_done=told.append))
    results = sweep.results()
    assert len(results.records) == 2 and len(told) == 3
    assert str(error.args[0]) in results.failures[0].reason
    assert not Sweep(sweep.cells, Store(tmp_path)).open
    assert len(Sweep(sweep.cells, Store(tmp_path), retry=True).open) == 1


def test_a_pair_that_makes_no_sense_is_a_failure_with_its_reason(
    tmp_path: Path, pretend: Callable[[Measure], None]
) -> None:
    pretend(made)
    deep = Method(name="todre", parameters={"exit_layer": 30})  # the demo has 8 layers
    both = recipe(0.5).model_copy(update={"methods": (deep, *recipe(0.5).methods)})
    sweep = Sweep(cells_of([both]), Store(tmp_path))
    run(sweep, Listener())
    assert len(sweep.results().records) == 1
    assert "8 layers" in sweep.results().failures[0].reason


def test_a_broken_or_foreign_file_counts_as_nothing(tmp_path: Path) -> None:
    (cell, other) = cells_of([recipe(0.5, 0.25)])
    store = Store(tmp_path)
    store.path(cell_key(cell)).write_text("{")
    assert len(Sweep([cell], store).open) == 1
    store.write(made(other))
    store.path(cell_key(other)).rename(store.path(cell_key(cell)))
    assert len(Sweep([cell], store).open) == 1


def test_a_real_cell_in_a_process_of_its_own(tmp_path: Path) -> None:
    cells = cells_of([recipe(0.25)])
    sweep = Sweep(cells, Store(tmp_path))
    run(sweep, Listener(), jobs=2)
    assert [record.key for record in sweep.results().records] == [cell_key(cells[0])]


def test_a_real_cell_here(tmp_path: Path) -> None:
    cells = cells_of([recipe(0.5)])
    measure_cells(cells, Store(tmp_path), Listener())
    found = Store(tmp_path).read(cell_key(cells[0]))
    assert isinstance(found, RunRecord) and found.policy.method == "fastv"
    assert found.sources == sources_of(cells[0])


MINE = """
from dataclasses import dataclass
from tokprof.policies.random import Random

@dataclass(frozen=True, kw_only=True)
class Mine(Random):
    name = "mine"
"""


def own(folder: Path) -> Cell:
    """A cell whose method, weights and picture are all files of the user's own."""
    (folder / "mine.py").write_text(MINE)
    (folder / "picture.png").write_bytes(bundled_picture_file().read_bytes())
    shutil.copytree(catalog.find("demo").folder or "", folder / "weights", dirs_exist_ok=True)
    return Cell(
        model="demo",
        method=Method(name=str(folder / "mine.py"), parameters={"keep": 0.5}),
        workload=Workload(images=(str(folder / "picture.png"),)),  # type: ignore[call-arg]
        setting=Setting(weights=str(folder / "weights")),
        measurement=Measurement(rounds=2),  # type: ignore[call-arg]
    )


def bundled_picture_file() -> Path:
    return Path(tokprof.__file__).parent / "pictures" / "table.png"


def other_method(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mine.py").write_text(MINE + "# a comment\n")


def other_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (weights,) = (folder / "weights").glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))  # of the same size


def other_picture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = bundled_picture_file().with_name("window.png")
    (folder / "picture.png").write_bytes(bundled.read_bytes())


def other_tokprof(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokprof.sources.__version__", "9.9")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_method, "another version of the method's file"),
        (other_weights, "other files of the model"),
        (other_picture, "other pictures"),
        (other_tokprof, "another tokprof"),
    ],
)
def test_what_was_made_with_something_else_is_measured_anew(
    tmp_path: Path,
    pretend: Callable[[Measure], None],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path, pytest.MonkeyPatch], None],
    said: str,
) -> None:
    pretend(made)
    cells, store = [own(tmp_path), *cells_of([recipe(0.5)])], Store(tmp_path / "results")
    run(Sweep(cells, store), Listener())
    assert not Sweep(cells, store).stale and not Sweep(cells, store).open
    change(tmp_path, monkeypatch)
    again = Sweep(cells, store)
    assert again.stale[cell_key(cells[0])] == [said]
    assert again.open == (cells if change is other_tokprof else cells[:1])
    run(again, Listener())
    assert not Sweep(cells, store).open and not Sweep(cells, store).stale


def test_a_failure_whose_cause_was_mended_is_measured_again(
    tmp_path: Path, pretend: Callable[[Measure], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(made)
    cell, store = own(tmp_path), Store(tmp_path / "results")
    (tmp_path / "mine.py").write_text("1 / 0")
    run(Sweep([cell], store), Listener())
    assert "ZeroDivisionError" in Sweep([cell], store).results().failures[0].reason
    assert not Sweep([cell], store).open
    other_method(tmp_path, monkeypatch)
    run(Sweep([cell], store), Listener())
    assert Sweep([cell], store).results().records


def test_a_result_of_before_sources_were_noted_is_readable_and_measured_anew(
    tmp_path: Path, pretend: Callable[[Measure], None]
) -> None:
    pretend(made)
    (cell,) = cells_of([recipe(0.5)])
    old = made(cell).model_dump(mode="json", exclude={"sources"})
    file = {"kind": "tokprof.records", "schema_version": 1, "records": [old], "failures": []}
    path = Store(tmp_path).path(cell_key(cell))
    path.write_text(json.dumps(file))
    assert read_records(path).records[0].sources == {}
    assert Sweep([cell], Store(tmp_path)).open == [cell]


def test_what_a_method_was_when_it_was_read_counts(tmp_path: Path) -> None:
    """A file that changes while it is being measured leaves a record of the old one."""
    cell = own(tmp_path)
    ready = resolve.ready(cell)
    (tmp_path / "mine.py").write_text(MINE + "# later\n")
    assert changed({**ready.sources, "model": sources_of(cell)["model"]}, sources_of(cell))
    failure = profiler.failure_of(cell, MachineError("no", ""), ready.sources)
    assert changed(failure.sources, sources_of(cell))


def test_what_a_model_is_made_of_is_looked_up_on_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("tokprof.models.hub._ask", asked)
    (cell,) = cells_of([recipe(0.5)])
    for name in ("", "no-such-model", "nobody/no-such-model", "./nowhere/at all"):
        assert model_source(cell.model_copy(update={"model": name})) == "none"
    shutil.copytree(catalog.find("demo").folder or "", tmp_path / "mine")
    own = cell.model_copy(update={"model": str(tmp_path / "mine")})
    assert model_source(own) == model_source(cell)  # a copy that kept the times
    os.utime(tmp_path / "mine" / "config.json", (1, 1))
    assert model_source(own) not in ("none", model_source(cell))
