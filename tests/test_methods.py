"""`tokprof methods`: the list, the matrix and their JSON say what the classes declare."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from tokprof import methods, policies
from tokprof.cli import build_app
from tokprof.cli.methods import matrix_table
from tokprof.errors import TokprofError, UnknownNameError
from tokprof.fit import check_fit

NAMES = policies.names()


@pytest.fixture(scope="module")
def fits() -> dict[str, dict[str, methods.Fit]]:
    return methods.matrix(NAMES)


def called(*arguments: str) -> Result:
    return CliRunner().invoke(build_app(), ["methods", *arguments], env={"COLUMNS": "100"})


@pytest.mark.parametrize("name", NAMES)
def test_every_method_tells_what_it_is(name: str) -> None:
    facts = methods.facts(name)
    assert facts.name == name and facts.acts and facts.summary.endswith(".")
    assert facts.paper or name == "dense"
    assert "`keep`" in facts.description and 0 < facts.keep <= 1
    assert "keep" in facts.parameters


def test_the_matrix_says_what_a_run_would_say(fits: dict[str, dict[str, methods.Fit]]) -> None:
    scenes = {family: methods._scenes(entry) for family, entry in methods.families().items()}
    for name, row in fits.items():
        for family, fit in row.items():
            for scene, reason in zip(scenes[family], (fit.pictures, fit.video), strict=True):
                if scene is None:
                    assert reason is None
                    continue
                try:
                    check_fit(policies.build(name), scene)
                    refused = False
                except TokprofError:
                    refused = True
                assert bool(reason) is refused


def test_known_cells(fits: dict[str, dict[str, methods.Fit]]) -> None:
    assert [family for family, fit in fits["globalcom2"].items() if fit.verdict == "yes"] == ["llava-next"]
    assert fits["fastervlm"]["llava-onevision"].verdict == "no"
    assert "class token" in fits["fastervlm"]["qwen2-vl"].reasons[0]
    assert fits["tome"]["llava-onevision"].verdict == "pictures"
    assert fits["todre"]["qwen2-vl"].verdict == "yes"
    assert all(fit.verdict == "yes" for fit in fits["random"].values())


def test_the_matrix_fits_eighty_columns_and_numbers_its_reasons(fits: dict[str, dict[str, methods.Fit]]) -> None:
    table, notes = matrix_table(fits)
    assert Console(width=200).measure(table).minimum <= 80
    assert len(notes) == len(set(notes)) and all(not note.startswith("downsample:") for note in notes)
    written = {number for row in fits.values() for fit in row.values() for number in map(notes.index, fit.reasons)}
    assert written == set(range(len(notes)))


def test_the_command_lists_all_of_them() -> None:
    shown = called()
    assert shown.exit_code == 0
    assert all(name in shown.output for name in NAMES)
    assert [each["name"] for each in json.loads(called("--json").output)] == NAMES
    told = json.loads(called("globalcom2", "--matrix", "--json").output)
    assert told["globalcom2"]["llava-next"] == {"pictures": "", "video": None}


def test_one_method_in_full() -> None:
    shown = called("todre").output
    assert "exit_layer = None" in shown and "SALIENCY" in shown and "2505.18757v1" in shown


def test_a_file_of_ones_own_is_described_too(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    lines = ['"""Mine."""', "from tokprof.policies.base import Policy", "class Mine(Policy):"]
    mine.write_text("\n".join([*lines, '    """My own."""', '    name = "mine"']))
    assert "My own." in called(str(mine)).output


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    raised = called("todr").exception
    assert isinstance(raised, UnknownNameError) and "todre" in raised.hint


def test_no_torch_is_loaded() -> None:
    code = "import sys; from tokprof import methods, policies; methods.matrix(policies.names())"
    subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], check=True)
