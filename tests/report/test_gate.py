"""The gate: four answers, each earned."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from tests.records import make_environment, make_record
from tests.report.golden import same_as_golden
from tokprof.cli import build_app
from tokprof.errors import InputError, MachineError, RecordError, TokprofError
from tokprof.gate.calibration import calibrated, read_calibration, write_calibration
from tokprof.gate.checking import against_file, against_reference, calibrate
from tokprof.gate.measuring import adapted, side_by_side
from tokprof.gate.outcome import Finding, Outcome, confirmed
from tokprof.gate.outputs import junit, markdown, render, write_outputs
from tokprof.gate.reference import base_place, head_place, same_dependencies
from tokprof.gate.starter import WORKFLOW_TEXT, refuse_to_overwrite, write_starter
from tokprof.gate.verdicts import pooled, verdict
from tokprof.measure.apart import Place, measure_alone, measure_apart, recipes_of
from tokprof.recipe import Cell, Measurement, Method, Recipe, Workload
from tokprof.record import Activity, RunRecord, read_records, write_records

BASE = make_record(seed=100)


def with_arm(record: RunRecord, **changes: Any) -> RunRecord:
    return record.model_copy(update={"policy": record.policy.model_copy(update=changes)})


def answers(outcome: Outcome) -> dict[str, str]:
    return {finding.metric: finding.answer for finding in outcome.findings}


def said(outcome: Outcome, metric: str) -> Finding:
    return next(finding for finding in outcome.findings if finding.metric == metric)


# tier 1


def test_the_same_passes_on_any_machine() -> None:
    elsewhere = make_record(environment=make_environment("CPU of a laptop"), policy_ms=900)
    outcome = verdict([BASE], [elsewhere], tier=1)
    assert outcome.answer == "pass" and outcome.exit_code == 0
    assert any("launches not compared" in note for note in outcome.notes)


def test_one_token_more_in_one_layer_regresses() -> None:
    layers = list(BASE.policy.tokens.per_layer)
    layers[17] += 1
    outcome = verdict([BASE], [make_record(per_layer=layers)], tier=1)
    found = answers(outcome)
    assert outcome.exit_code == 1
    assert found["tokens per layer"] == found["FLOPs (exact)"] == found["KV bytes"] == "regressed"
    assert found["dense tokens per layer"] == "pass"
    assert said(outcome, "tokens per layer").after == "2×2880, 15×720, 1×721, 14×720"
    assert "renew the baseline" in markdown(outcome)


def test_one_synchronisation_more_regresses_and_is_named() -> None:
    assert BASE.policy.activity is not None
    more = Activity(
        kernel_launches=BASE.policy.activity.kernel_launches, host_syncs={"prefill": 0, "decode": 0, "select": 1}
    )
    outcome = verdict([BASE], [with_arm(BASE, activity=more)], tier=1)
    assert answers(outcome)["host syncs"] == "regressed"
    assert said(outcome, "host syncs").after == "1 (select 1)"


def test_another_dtype_leaves_bytes_out_with_a_note() -> None:
    model = BASE.model.model_copy(update={"dtype": "float32"})
    outcome = verdict([BASE], [BASE.model_copy(update={"model": model})], tier=1)
    assert "KV bytes" not in answers(outcome)
    assert any("bfloat16 → float32" in note for note in outcome.notes)


def test_tokens_that_data_decides_count_only_for_the_same_data() -> None:
    tokens = BASE.policy.tokens.model_copy(update={"planned_least": (0,) * 32})
    decided = with_arm(BASE, tokens=tokens)
    other = decided.model_copy(update={"inputs": decided.inputs.model_copy(update={"sha256": "1" * 64})})
    assert "tokens per layer" in answers(verdict([decided], [decided], tier=1))
    outcome = verdict([decided], [other], tier=1)
    assert "tokens per layer" not in answers(outcome)
    assert any("data decides" in note for note in outcome.notes)


def test_a_convention_that_is_gone_is_not_silence() -> None:
    flops = {name: parts for name, parts in BASE.policy.flops.items() if name != "todre"}
    outcome = verdict([BASE], [with_arm(BASE, flops=flops)], tier=1)
    assert said(outcome, "FLOPs (todre)").after == "missing" and outcome.exit_code == 1


def test_a_cell_that_is_gone_is_incomparable_and_a_new_one_a_note() -> None:
    outcome = verdict([BASE, make_record(keep=0.1)], [BASE, make_record(keep=0.5)], tier=1)
    assert outcome.answer == "incomparable" and outcome.exit_code == 3
    assert any("keep=0.5" in note and "new" in note for note in outcome.notes)


def test_looking_at_nothing_is_not_passing() -> None:
    assert verdict([], [], tier=1).exit_code == 3


# tier 2


def test_the_same_time_passes() -> None:
    assert verdict([BASE], [make_record(seed=7, rounds=40)], tier=2).answer == "pass"


def test_five_percent_in_the_request_is_found() -> None:
    outcome = verdict([BASE], [make_record(policy_ms=52.5, seed=7, rounds=30)], tier=2)
    found = answers(outcome)
    assert found["request"] == found["request ÷ dense"] == found["prefill"] == "regressed"
    assert found["dense request"] == "pass"
    assert "p " in said(outcome, "request").detail and "threshold 2.0%" in said(outcome, "request").detail


def test_a_stage_that_got_slower_is_found_although_the_request_hides_it() -> None:
    stages = {"vision": 9.8, "project": 0.98, "select": 1.0, "prefill": 24.5, "first_decode": 1.47, "decode": 12.25}
    slower = {**stages, "vision": 9.8 * 1.08}
    outcome = verdict([make_record(policy_stages=stages, seed=1)], [make_record(policy_stages=slower, seed=9)], tier=2)
    assert answers(outcome)["vision"] == "regressed"
    assert "select" not in answers(outcome), "2 % of the request is judged with the request"


def test_a_faster_one_passes() -> None:
    assert verdict([BASE], [make_record(policy_ms=40, dense_ms=90, seed=7)], tier=2).answer == "pass"


def test_noise_that_hides_a_slowdown_is_ambiguous_not_pass() -> None:
    noisy = make_record(noise=0.15, seed=1), make_record(noise=0.15, policy_ms=52.5, seed=9)
    outcome = verdict([noisy[0]], [noisy[1]], tier=2)
    assert outcome.answer == "ambiguous" and outcome.exit_code == 3


def test_drift_makes_times_ambiguous() -> None:
    drifted = make_record(policy_ms=60, seed=7, baseline_again_ms=[110.0, 110.5, 111.0, 110.2, 110.7])
    outcome = verdict([BASE], [drifted], tier=2)
    assert answers(outcome)["request"] == "ambiguous"
    assert "drifted" in said(outcome, "request").detail


def test_other_clocks_make_times_ambiguous() -> None:
    def at(record: RunRecord, mhz: float) -> RunRecord:
        state = {"sm_clock_mhz": (mhz,) * 40}
        return record.model_copy(update={"environment": make_environment(rounds_state=state)})

    slowed = verdict([at(BASE, 1980)], [at(make_record(policy_ms=65, seed=7), 1400)], tier=2)
    assert answers(slowed)["request"] == "ambiguous" and "1400 MHz" in said(slowed, "request").detail
    assert verdict([at(BASE, 1980)], [at(make_record(seed=7, rounds=40), 1965)], tier=2).answer == "pass"


def test_few_rounds_decide_nothing() -> None:
    outcome = verdict([make_record(rounds=3)], [make_record(rounds=3, policy_ms=80, seed=5)], tier=2)
    assert answers(outcome)["request"] == "ambiguous" and "only 3 rounds" in said(outcome, "request").detail


def test_times_of_another_machine_are_incomparable() -> None:
    outcome = verdict([BASE], [make_record(environment=make_environment("NVIDIA A100 (made up)"))], tier=2)
    assert outcome.exit_code == 3 and answers(outcome)["times"] == "incomparable"
    assert answers(outcome)["tokens per layer"] == "pass"


def test_samples_of_zero_are_ambiguous() -> None:
    outcome = verdict([BASE], [make_record(policy_ms=0.0, noise=0.0)], tier=2)
    assert answers(outcome)["request"] == "ambiguous"


# calibration


def test_calibration_raises_the_threshold(tmp_path: Path) -> None:
    runs = [[make_record(policy_ms=50 * factor, seed=i)] for i, factor in enumerate((1.0, 1.03, 0.97, 1.02, 0.98))]
    noise = calibrated(runs)
    path = tmp_path / "noise.json"
    write_calibration(path, {"another device": {}})
    write_calibration(path, noise)
    known = read_calibration(path)
    assert known == {"another device": {}, **noise}
    slower = make_record(policy_ms=53, seed=9, rounds=30)
    assert answers(verdict([BASE], [slower], tier=2))["request"] == "regressed"
    assert answers(verdict([BASE], [slower], tier=2, calibration=known))["request"] != "regressed"


def test_calibrating_measures_several_times() -> None:
    seeds = iter(range(100))
    found = calibrate([BASE.cell], lambda said: None, 4, lambda cells, place: [make_record(seed=next(seeds))])
    (metrics,) = found[BASE.environment.device.name].values()
    assert 0 < metrics["request"] < 0.02 and next(seeds) == 4


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"kind": "tokprof.calibration"}', '{"kind": "tokprof.calibration", "devices": {"a": 3}}']
    + [
        json.dumps({"kind": "tokprof.calibration", "devices": {"a": {"b": {"request": bad}}}})
        for bad in (-1, True, "x", float("nan"), float("inf"))
    ],
)
def test_a_damaged_calibration_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "noise.json").write_text(text)
    with pytest.raises(RecordError, match=r"noise\.json"):
        read_calibration(tmp_path / "noise.json")


# the second look


def finding(answer: Any, metric: str = "request") -> Outcome:
    return Outcome((Finding(2, "cell", metric, answer),))


@pytest.mark.parametrize(
    "first,second,settled",
    [
        ("regressed", "regressed", "regressed"),
        ("regressed", "pass", "ambiguous"),
        ("regressed", "ambiguous", "ambiguous"),
        ("ambiguous", "pass", "pass"),
        ("ambiguous", "ambiguous", "ambiguous"),
        ("ambiguous", "regressed", "ambiguous"),
        ("pass", "regressed", "pass"),
        ("incomparable", "pass", "incomparable"),
    ],
)
def test_only_what_regressed_twice_has_regressed(first: str, second: str, settled: str) -> None:
    assert confirmed(finding(first), finding(second)).answer == settled


def test_the_worst_finding_decides() -> None:
    both = Outcome((*finding("pass").findings, *finding("ambiguous").findings, *finding("regressed").findings))
    assert both.answer == "regressed" and both.exit_code == 1


def scripted(*results: RunRecord) -> tuple[Callable[..., list[RunRecord]], list[Any]]:
    """A measuring function that hands out these records one after the other."""
    left, asked = list(results), []

    def measure(cells: Sequence[Cell], place: Place | None) -> list[RunRecord]:
        asked.append(place)
        return [left.pop(0)]

    return measure, asked


def quiet(said: str) -> None:
    pass


def test_a_check_looks_twice_before_it_cries_wolf() -> None:
    slow, fine = make_record(policy_ms=60, seed=7), make_record(seed=8)
    measure, asked = scripted(slow, fine)
    assert against_file([BASE], [BASE.cell], 2, {}, quiet, measure).answer == "ambiguous"
    measure, asked = scripted(slow, slow)
    assert against_file([BASE], [BASE.cell], 2, {}, quiet, measure).answer == "regressed"
    measure, asked = scripted(fine)
    assert against_file([BASE], [BASE.cell], 2, {}, quiet, measure).answer == "pass" and len(asked) == 1


def test_two_checkouts_are_measured_in_turns_and_pooled() -> None:
    base, head = Place(Path("base")), Place(Path("head"))
    measure, asked = scripted(*(make_record(seed=seed) for seed in range(4)))
    before, after = side_by_side([BASE.cell], base, head, measure)
    assert asked == [base, head, head, base]
    assert before[0].policy.samples.rounds == after[0].policy.samples.rounds == 40
    measure, asked = scripted(
        make_record(), make_record(per_layer=[7] * 32), make_record(), make_record(per_layer=[7] * 32)
    )
    outcome = against_reference([BASE.cell], base, head, 1, {}, quiet, measure)
    assert outcome.answer == "regressed" and asked == [base, head] * 2


def test_pooling_keeps_cells_apart() -> None:
    runs = [[make_record(keep=keep, seed=seed) for keep in (0.1, 0.25)] for seed in (1, 2)]
    assert [record.policy.parameters["keep"] for record in pooled(runs)] == [0.1, 0.25]


def test_tier_1_measures_little_and_flags_win() -> None:
    (cell,) = adapted([BASE.cell], 1, device="cpu")
    assert (cell.measurement.rounds, cell.measurement.parity, cell.setting.device) == (2, False, "cpu")
    (cell,) = adapted([BASE.cell], 2, rounds=9, timeout=None)
    assert cell.measurement.rounds == 9 and cell.measurement.activity


# outputs


MIXED = verdict(
    [BASE, make_record("todre", seed=3), make_record("vtw")],
    [
        make_record(policy_ms=56, seed=7, per_layer=[2880] * 2 + [721] * 30),
        make_record("todre", noise=0.15, seed=9),
    ],
    tier=2,
)


def test_table_and_summary_as_they_were_looked_at() -> None:
    console = Console(width=110, no_color=True)
    with console.capture() as shown:
        console.print(render(MIXED))
    same_as_golden("gate.txt", "\n".join(line.rstrip() for line in shown.get().splitlines()) + "\n")
    same_as_golden("gate.md", markdown(MIXED))


def test_junit_has_one_case_per_finding() -> None:
    suite = ElementTree.fromstring(junit(MIXED))
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase")) == len(MIXED.findings)
    assert len(suite.findall("testcase/failure")) == int(suite.attrib["failures"]) > 0
    assert len(suite.findall("testcase/error")) == int(suite.attrib["errors"]) > 0


def test_hostile_names_stay_text() -> None:
    hostile = Outcome((Finding(1, "<script>|\x00\x1b", "a & b", "regressed", "]]>", "\n", "<"),), ("<b>",))
    assert ElementTree.fromstring(junit(hostile)).find("testcase") is not None
    assert "<script>" not in markdown(hostile) and "<b>" not in markdown(hostile)


def test_outputs_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("earlier\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    write_outputs(MIXED, tmp_path / "out" / "tokprof.xml")
    assert (tmp_path / "out" / "tokprof.xml").read_text().startswith("<?xml")
    assert summary.read_text().startswith("earlier\n## tokprof check: regressed")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    with pytest.raises(InputError, match="summary"):
        write_outputs(MIXED, None)


# processes of their own


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
    for name in ("__init__.py", "errors.py", "recipe.py", "record.py"):
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
    with pytest.raises(TokprofError, match="too small") as refused:
        measure_apart([cell("vtw")], fake_checkout)
    assert refused.value.hint == "buy a larger one"
    with pytest.raises(MachineError, match="killed \\(signal 9\\)"):
        measure_apart([cell("random")], fake_checkout)
    with pytest.raises(MachineError, match="ZeroDivisionError: a bug"):
        measure_apart([cell("dense")], fake_checkout)


def test_isolated_cells_keep_their_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def measure(cells: Sequence[Cell]) -> list[RunRecord]:
        asked.extend(each.measurement.isolate for each in cells)
        return [BASE]

    monkeypatch.setattr("tokprof.measure.apart.measure_apart", measure)
    record = measure_alone(BASE.cell.model_copy(update={"measurement": Measurement(isolate=True)}))
    assert asked == [False] and record.cell.measurement.isolate and record.key != BASE.key


# git


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "inside").mkdir(parents=True)
    git(tmp_path, "init", "-q", str(folder))
    for text in ("old", "new"):
        (folder / "inside" / "mine.py").write_text(text)
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", text)
    return folder


def test_the_base_is_the_same_folder_as_it_was(repository: Path) -> None:
    with base_place("HEAD~1", repository / "inside") as place:
        assert place.folder is not None and (place.folder / "mine.py").read_text() == "old"
        assert place.python == sys.executable and place.package is None
        tree = place.folder
    assert not tree.exists()
    listed = subprocess.run(["git", "-C", str(repository), "worktree", "list"], capture_output=True, text=True)
    assert len(listed.stdout.splitlines()) == 1
    assert head_place(repository / "inside").folder == repository / "inside"


def test_other_dependencies_need_another_environment(repository: Path) -> None:
    assert same_dependencies(repository, repository)
    (repository / "requirements.txt").write_text("torch==2.8\n")
    assert not same_dependencies(repository, repository / "inside")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "newer")
    with base_place("HEAD~1", repository, python="/opt/python") as place:
        assert place.python == "/opt/python"


def test_git_mistakes_are_said(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no 'elsewhere'"), base_place("elsewhere", repository):
        pass
    with pytest.raises(InputError, match="git knows no '--help'"), base_place("--help", repository):
        pass
    with pytest.raises(InputError, match="not in a git repository"), base_place("HEAD", tmp_path):
        pass
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"not in a git repository|not installed"), base_place("HEAD", repository):
        pass


# the command


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
