"""`tokprof check`: exit codes, mistakes, what it writes, and the workflows that call it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.gate.made import scripted
from tests.records import make_environment
from tests.records import make_record as make_any_record
from tokprof.cli import build_app
from tokprof.errors import InputError, TokprofError
from tokprof.gate.checking import against_file
from tokprof.gate.starter import WORKFLOW_TEXT, refuse_to_overwrite, write_starter
from tokprof.recipe import Setting
from tokprof.record import RunRecord, read_records, write_records

make_record = partial(make_any_record, model="demo", setting=Setting(device="cpu"))
BASE = make_record(seed=100)
METHOD = """
from typing import ClassVar
from tokprof.policies.base import Plan, Policy, Scene
class Ours(Policy):
    name: ClassVar[str] = "ours"
    paper: ClassVar[str] = "none"
    acts: ClassVar[str] = "never"
    def plan(self, scene: Scene) -> Plan:
        return Plan(layers=(scene.visual,) * scene.depth)
"""


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


MISTAKES = {
    "no baseline": (["--baseline", "none.json"], "no baseline none.json"),
    "an empty baseline": (["--baseline", "empty.json"], "not JSON"),
    "a baseline of nothing": (["--baseline", "nothing.json"], "holds no records"),
    "a folder without records": (["--baseline", "folder"], "no result files in folder"),
    "two things to check against": (["--baseline", "a", "--against-ref", "b"], "both"),
    "an unset reference": (["--against-ref", ""], "--against-ref ''"),
    "no git repository": (["--against-ref", "HEAD"], "not in a git repository"),
    "an interpreter for nothing": (["--base-python", "python"], "without --against-ref"),
    "a third tier": (["--tier", "3"], "--tier '3'"),
    "a format of its own": (["--format", "html"], "--format 'html'"),
    "one round": (["--rounds", "1"], "--rounds 1"),
    "fewer than none": (["--rounds", "-5"], "--rounds -5"),
    "no number of seconds": (["--min-seconds", "nan"], "--min-seconds nan"),
    "no end": (["--timeout", "inf"], "--timeout inf"),
    "a time-out in the past": (["--timeout", "-1"], "--timeout -1"),
    "a recipe that is not there": (["nothing-like-this"], "nothing-like-this"),
    "a starter over another": (["--init"], "already there"),
    "a starter elsewhere": (["--init", "--baseline", "x.json"], "--init writes"),
    "two things at once": (["--init", "--calibrate"], "--init and --calibrate"),
    "noise of counts": (["--calibrate", "--tier", "1"], "--calibrate is about times"),
    "no calibration": (["--calibration", "none.json"], "no file none.json"),
    "another device": (["--device", "tpu"], "--device 'tpu'"),
    "JUnit into a folder": (["--junit", "folder"], "folder is a folder"),
    "JUnit into a file's folder": (["--junit", "empty.json/x.xml"], "is no folder"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_said_before_anything_is_measured(
    name: str, measured: Callable[..., None], tmp_path: Path
) -> None:
    measured()  # nothing to hand out: whoever measures fails
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "folder").mkdir()
    write_records(tmp_path / "nothing.json", [])
    before = sorted(tmp_path.rglob("*"))
    arguments, words = MISTAKES[name]
    done = run(*arguments)
    assert isinstance(done.exception, TokprofError), done.output
    assert words in done.exception.message and done.exception.hint and done.exception.exit_code == 2
    assert "measuring" not in done.output and sorted(tmp_path.rglob("*")) == before


def test_a_method_that_is_the_same_file_for_both_is_refused(measured: Callable[..., None], tmp_path: Path) -> None:
    measured()
    (tmp_path / "ours.py").write_text(METHOD)
    write_records(tmp_path / ".tokprof" / "baseline.json", [make_record(str(tmp_path / "ours.py"))])
    assert "absolute path" in run("--against-ref", "HEAD").exception.message


def test_a_summary_that_cannot_be_written_is_said_at_once(
    measured: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    assert "GITHUB_STEP_SUMMARY" in run().exception.hint


def test_a_gpu_that_is_not_here_and_a_model_that_is_too_large(
    measured: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    large = make_any_record()
    write_records(tmp_path / "large.json", [large])
    assert "--device cpu compares the counts" in run("--baseline", "large.json").exception.hint
    done = run("--baseline", "large.json", "--device", "cpu", "--tier", "1")
    assert "llava-next-7b on a CPU needs" in done.exception.message


@pytest.mark.parametrize(
    "change,answer,code",
    [
        ({"environment": make_environment("NVIDIA A100 (made up)")}, "incomparable", 3),
        ({"keep": 0.5}, "incomparable", 3),
        ({"per_layer": [2880] * 2 + [721] * 30}, "regressed", 1),
        ({}, "pass", 0),
    ],
    ids=["another machine", "another set of methods", "other counts", "the same"],
)
def test_what_the_baseline_holds_decides(
    change: dict[str, Any], answer: str, code: int, measured: Callable[..., None]
) -> None:
    again = make_record(seed=7, rounds=40, **change)
    measured(again, again)
    done = run("--tier", "2")
    assert done.exit_code == code and f"\n{answer}: " in done.output


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
