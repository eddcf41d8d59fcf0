"""`tokprof check`: exit codes, mistakes, what it writes, and the workflows that call it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.gate.made import BASE, scripted
from tests.records import make_record
from tokprof.cli import build_app
from tokprof.errors import InputError, TokprofError
from tokprof.gate.checking import against_file
from tokprof.gate.starter import WORKFLOW_TEXT, refuse_to_overwrite, write_starter
from tokprof.record import RunRecord, read_records, write_records


def run(*arguments: str) -> Any:
    return CliRunner().invoke(build_app(), ["check", *arguments])


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_records(tmp_path / ".tokprof" / "baseline.json", [BASE])

    def answer(*records: RunRecord) -> None:
        monkeypatch.setattr(against_file, "__defaults__", (scripted(*records)[0],))

    return answer


def test_exit_codes(measured: Callable[..., None]) -> None:
    slow, noisy = make_record(policy_ms=60, seed=7), make_record(noise=0.2, seed=8)
    for records, code in (((make_record(seed=7),), 0), ((slow, slow), 1), ((noisy, noisy), 3)):
        measured(*records)
        done = run("--tier", "2", "--junit", "out.xml")
        assert done.exit_code == code, done.output
    assert Path("out.xml").exists()


def test_mistakes_are_said_before_anything_is_measured(measured: Callable[..., None], tmp_path: Path) -> None:
    for arguments, words in (
        (["--baseline", "none.json"], "no baseline none.json"),
        (["--baseline", "a", "--against-ref", "b"], "both"),
        (["--base-python", "python"], "without --against-ref"),
        (["--tier", "3"], "--tier '3'"),
        (["--format", "html"], "--format 'html'"),
        (["--rounds", "1"], "--rounds 1"),
        (["nothing-like-this"], "no recipe|nothing-like-this"),
        (["--init"], "already there"),
        (["--calibration", "none.json"], "no file none.json"),
    ):
        done = run(*arguments)
        assert isinstance(done.exception, TokprofError), (arguments, done.output)
        assert any(word in done.exception.message for word in words.split("|")), done.exception.message


def test_workflows_and_the_action_are_sound_and_call_what_exists() -> None:
    root = Path(__file__).parents[2]
    action = yaml.safe_load((root / "action.yml").read_text(encoding="utf-8"))
    script = action["runs"]["steps"][-1]["run"]
    subprocess.run(["bash", "-n", "-c", script], check=True)
    examples = re.findall(r"```yaml\n(.*?)```", (root / "docs" / "ci.md").read_text(encoding="utf-8"), re.DOTALL)
    commands = [script]
    for workflow in [WORKFLOW_TEXT, *examples]:
        for job in yaml.safe_load(workflow)["jobs"].values():
            commands += [step.get("run", "") for step in job["steps"]]
    options = set(re.findall(r"--[a-z-]+", " ".join(line for line in commands if "tokprof" in line)))
    shown = CliRunner().invoke(build_app(), ["check", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    assert len(examples) == 2 and {"--tier", "--junit", "--against-ref"} <= options
    assert not [option for option in options if option not in shown]


def test_starter(tmp_path: Path) -> None:
    refuse_to_overwrite(tmp_path, yes=False)
    written = write_starter(tmp_path, [BASE])
    assert list(read_records(tmp_path / written[0]).records) == [BASE]
    assert "--tier 1" in (tmp_path / written[1]).read_text()
    with pytest.raises(InputError, match="already there"):
        refuse_to_overwrite(tmp_path, yes=False)
    (tmp_path / written[1]).write_text("mine")
    write_starter(tmp_path, [BASE])
    assert (tmp_path / written[1]).read_text() == "mine", "a workflow may have been edited"
