"""`--scores eager`: what scoring the official way costs, beside ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tokprof.cli import build_app
from tokprof.errors import InputError

HEADS = 4  # of the demo's decoder
QUICK = ("--rounds", "2", "--accuracy", "0", "--no-parity", "--new-tokens", "1", "--keep", "0.25")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(build_app(), ["run", *arguments, *QUICK], env={"COLUMNS": "200", "NO_COLOR": "1"})


def test_the_official_way_is_a_row_beside_ours(tmp_path: Path) -> None:
    done = run("--method", "fastv,random", "--scores", "eager", "--json", str(tmp_path / "run.json"))
    assert done.exit_code == 0, done.output
    records = json.loads((tmp_path / "run.json").read_text())["records"]
    ways = [(record["policy"]["method"], record["cell"]["setting"]["scores"]) for record in records]
    assert ways == [("fastv", "minimal"), ("fastv", "eager"), ("random", "minimal")], "random reads no attention"
    ours, official = (record["policy"] for record in records[:2])
    assert ours["tokens"] == official["tokens"] and ours["generated"] == official["generated"]
    one_matrix = ours["tokens"]["original"] ** 2 * HEADS * 4
    selecting = [each["memory"]["stage_peak_bytes"]["select"] for each in (ours, official)]
    assert selecting[1] > selecting[0] + one_matrix, "the whole matrix is in memory, and is seen there"
    shown = [" ".join(line.split()[:2]) for line in done.output.splitlines()]
    assert "peak memory" in done.output and "fastv keep=0.25" in shown and "fastv scores=eager" in shown


def test_where_nothing_is_scored_it_is_a_mistake() -> None:
    done = run("--method", "random", "--scores", "eager")
    assert isinstance(done.exception, InputError) and "none of these methods" in done.exception.message
