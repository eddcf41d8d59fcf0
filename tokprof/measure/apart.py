"""Measuring in a process of its own: for who distrusts interleaving, and for the gate, whose two sides
may be two checkouts of the code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokprof.errors import MachineError, TokprofError
from tokprof.measure.turns import PLACE, Turn, two_turns
from tokprof.recipe import Cell, Recipe
from tokprof.record import RunRecord, cell_key, read_records

# The child imports whatever tokprof its folder holds; it needs `profile` and the recipe's schema, no more.
CHILD = """
import json, sys
from pathlib import Path
from tokprof.errors import MachineError, TokprofError
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
    said = isinstance(error, MachineError), error.message, error.hint
    refused.write_text(json.dumps(said), encoding="utf-8")
"""
SAID_AT_LAST = 3  # lines of a child's stderr that an error repeats
LOOK_EVERY = 0.2  # seconds: whether both children are still there


class CrashError(MachineError):
    """A measuring process ended with a traceback."""


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
    with (
        tempfile.TemporaryDirectory(prefix="tokprof-") as folder,
        _Child(cells, place or Place(), Path(folder)) as child,
    ):
        child.process.wait()
        return child.records()


def measure_in_turns(cells: Sequence[Cell], base: Place, head: Place) -> tuple[list[RunRecord], list[RunRecord]]:
    """The same cells at both places, in two new processes: each waits while the other has a round."""
    turns = two_turns()
    ours = [end for turn in turns for end in (turn.hears, turn.tells)]
    with tempfile.TemporaryDirectory(prefix="tokprof-") as one, tempfile.TemporaryDirectory(prefix="tokprof-") as two:
        try:
            first = _Child(cells, base, Path(one), turns[0])
            with first, _Child(cells, head, Path(two), turns[1]) as second:
                while ours:  # so that a child which is gone is not waited for by the other
                    os.close(ours.pop())
                return _of_both(first, second)
        finally:
            for end in ours:
                os.close(end)


def _of_both(first: _Child, second: _Child) -> tuple[list[RunRecord], list[RunRecord]]:
    """What one alone has to say is of no use: the first failure ends both."""
    while first.process.poll() is None or second.process.poll() is None:
        if first.failed or second.failed:
            break
        time.sleep(LOOK_EVERY)
    if second.failed and not first.failed:
        second.records()
    return first.records(), second.records()


def can_take_turns(*places: Place) -> bool:
    """Not where a checkout is from before there were turns, nor where a process cannot inherit pipes."""
    script = f"import {Turn.__module__}"
    return os.name == "posix" and all(
        subprocess.run(
            [place.python, "-c", script], cwd=place.folder, env=place.environment(), capture_output=True, check=False
        ).returncode
        == 0
        for place in places
    )


class _Child:
    """A process that measures, and what it leaves behind."""

    def __init__(self, cells: Sequence[Cell], place: Place, folder: Path, turn: Turn | None = None) -> None:
        self.place = place
        self._said, self._written, self._refused = (
            folder / name for name in ("said.txt", "records.json", "error.json")
        )
        wanted = folder / "recipes.json"
        wanted.write_text(json.dumps([recipe.model_dump(mode="json") for recipe in recipes_of(cells)]), "utf-8")
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [place.python, "-c", CHILD, str(wanted), str(self._written), str(self._refused)],
                cwd=place.folder,
                env=place.environment() | ({PLACE: str(turn)} if turn else {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=(turn.hears, turn.tells) if turn else (),
            )

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def failed(self) -> bool:
        return self.process.poll() is not None and not self._written.exists()

    def records(self) -> list[RunRecord]:
        if self._refused.exists():
            machine, message, hint = json.loads(self._refused.read_text(encoding="utf-8"))
            raise (MachineError if machine else TokprofError)(self.place.says(message), hint)
        if not self._written.exists():
            code, hint = self.process.returncode, "run the same with `tokprof run`, to see it happen"
            if code < 0:
                killed = f"the measuring process was killed (signal {-code}): out of memory?"
                raise MachineError(self.place.says(killed), hint)
            raise CrashError(self.place.says(self._last_words(code)), hint)
        return list(read_records(self._written).records)

    def _last_words(self, code: int) -> str:
        said = " / ".join(self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-SAID_AT_LAST:])
        return f"the measuring process failed (exit {code}): {said or 'it said nothing'}"


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
