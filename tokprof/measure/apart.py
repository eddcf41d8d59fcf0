"""Measuring in a process of its own: for who distrusts interleaving, and for the gate, whose two sides
may be two checkouts of the code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokprof.errors import MachineError, TokprofError
from tokprof.recipe import Cell, Recipe
from tokprof.record import RunRecord, cell_key, read_records

# The child imports whatever tokprof its folder holds; it needs `profile` and the recipe's schema, no more.
CHILD = """
import json, sys
from pathlib import Path
from tokprof.errors import TokprofError
from tokprof.profiler import profile
from tokprof.recipe import Recipe
from tokprof.record import write_records
wanted, written, refused = map(Path, sys.argv[1:])
records = []
try:
    for recipe in json.loads(wanted.read_text(encoding="utf-8")):
        records += profile(Recipe.model_validate(recipe))
    write_records(written, records)
except TokprofError as error:
    refused.write_text(json.dumps([error.message, error.hint]), encoding="utf-8")
"""
SAID_AT_LAST = 3  # lines of a child's stderr that an error repeats


@dataclass(frozen=True)
class Place:
    """Where a child runs: the folder decides which files and which tokprof it sees."""

    folder: Path | None = None
    python: str = sys.executable
    package: Path | None = None  # a checkout whose tokprof is to be used
    name: str = ""  # said where something goes wrong there

    def environment(self) -> dict[str, str]:
        found = dict(os.environ)
        if self.package is not None:
            found["PYTHONPATH"] = os.pathsep.join(filter(None, (str(self.package), found.get("PYTHONPATH"))))
        return found

    def says(self, message: str) -> str:
        return f"{self.name}: {message}" if self.name else message


def measure_apart(cells: Sequence[Cell], place: Place | None = None) -> list[RunRecord]:
    """The records of all cells, from one new process."""
    place = place or Place()
    with tempfile.TemporaryDirectory(prefix="tokprof-") as folder:
        wanted, written, refused = (Path(folder) / name for name in ("recipes.json", "records.json", "error.json"))
        wanted.write_text(json.dumps([recipe.model_dump(mode="json") for recipe in recipes_of(cells)]), "utf-8")
        done = subprocess.run(
            [place.python, "-c", CHILD, str(wanted), str(written), str(refused)],
            cwd=place.folder,
            env=place.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        if refused.exists():
            message, hint = json.loads(refused.read_text(encoding="utf-8"))
            raise TokprofError(place.says(message), hint)
        if not written.exists():
            raise MachineError(place.says(_why(done)), "run the same with `tokprof run`, to see it happen")
        return list(read_records(written).records)


def measure_alone(cell: Cell) -> RunRecord:
    """One cell, with the dense model it is compared to, in a process of its own."""
    together = cell.model_copy(update={"measurement": cell.measurement.model_copy(update={"isolate": False})})
    (record,) = measure_apart([together])
    return record.model_copy(update={"cell": cell, "key": cell_key(cell)})


def recipes_of(cells: Iterable[Cell]) -> list[Recipe]:
    """As few recipes as have exactly these cells: those that differ only by method share one."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.model_dump_json(exclude={"method"}), []).append(cell)
    return [
        Recipe(
            models=(group[0].model,),
            methods=tuple(cell.method for cell in group),
            workloads=(group[0].workload,),
            setting=group[0].setting,
            measurement=group[0].measurement,
        )
        for group in groups.values()
    ]


def _why(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the measuring process was killed (signal {-done.returncode}): out of memory?"
    said = " / ".join(done.stderr.strip().splitlines()[-SAID_AT_LAST:])
    return f"the measuring process failed (exit {done.returncode}): {said or 'it said nothing'}"
