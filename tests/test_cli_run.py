"""`tokprof run` as people type it, mistakes first: one line what is wrong, one what to do, exit 2, nothing on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
import pytest

from tokprof import cli, profiler
from tokprof.record import read_records

DEMO = ("run", "--model", "demo", "--method", "fastv", "--keep", "0.25")
BRIEF = ("--rounds", "2", "--new-tokens", "3", "--device", "cpu")


@dataclass
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def tokprof(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["tokprof", *(str(argument) for argument in arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "words.png").write_text("not a picture")
    PIL.Image.new("1", (30000, 30000)).save(tmp_path / "enormous.png")
    return tmp_path


MISTAKES = {
    "no method": (["run", "--model", "demo"], "which method"),
    "unknown method": (["run", "--model", "demo", "--method", "fastvv"], "did you mean fastv"),
    "unknown model": (["run", "--model", "lava-next-7b", "--method", "fastv"], "did you mean llava-next-7b"),
    "keep of zero": (["run", "--method", "fastv", "--keep", "0"], "keep=0"),
    "keep above one": (["run", "--method", "fastv", "--keep", "1.5"], "keep=1.5"),
    "keep of nan": (["run", "--method", "fastv", "--keep", "nan"], "'nan' is not a number"),
    "a word for a number": (["run", "--method", "fastv", "--keep", "few"], "'few' is not a number"),
    "keep and tokens": (["run", "--method", "fastv", "--keep", "0.5", "--tokens", "9"], "--keep and --tokens"),
    "unknown parameter": ([*DEMO, "--set", "fraction=3"], "no parameter 'fraction'"),
    "half an assignment": ([*DEMO, "--set", "layer"], "not name=value"),
    "another method's parameter": ([*DEMO, "--set", "todre.tau=1"], "not in --method"),
    "no class token": (["run", "--model", "llava-onevision-0.5b", "--method", "fastervlm"], "class token"),
    "no picture": ([*DEMO, "--image", "missing.png"], "missing.png"),
    "a size without x": ([*DEMO, "--image-size", "640"], "not a size"),
    "an empty prompt": ([*DEMO, "--prompt", "  "], ": the prompt is empty"),
    "a picture and a size": ([*DEMO, "--image", "a.png", "--image-size", "64x64"], "exclude each other"),
    "no GPU": ([*DEMO, "--device", "cuda"], "no CUDA device"),
    "a device of no kind": ([*DEMO, "--device", "tpu"], "--device 'tpu'"),
    "too large for a CPU": (
        ["run", "--model", "llava-1.5-7b", "--method", "fastv", "--device", "cpu"],
        "GiB of memory",
    ),
    "no batch": ([*DEMO, "--batch", "0"], "--batch"),
    "no rounds": ([*DEMO, "--rounds", "-1"], "--rounds"),
    "unknown format": ([*DEMO, "--format", "pdf"], "--format 'pdf'"),
    "an unknown budget": ([*DEMO, "--match", "beauty"], "--match 'beauty'"),
    "a missing recipe": (["run", "nowhere.yaml"], "nowhere.yaml"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, tokprof: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, expected = MISTAKES[name]
    said = tokprof(*arguments, *([] if arguments[0] != "run" else ["--json", "out.json"]))
    assert said.code == 2, said.out + said.err
    assert said.err.startswith("error: ")
    assert expected in said.err
    assert "\n  try: " in said.err, "no word on what to do"
    assert "Traceback" not in said.err
    assert not said.out
    assert not list(tmp_path.iterdir()), "something was written"


@pytest.mark.parametrize("file", ["broken.png", "empty.png", "words.png", "enormous.png"])
def test_pictures_that_cannot_be_used(file: str, tokprof: Callable[..., Said], pictures: Path) -> None:
    said = tokprof(*DEMO, "--image", pictures / file)
    assert said.code == 2
    assert file in said.err


def test_a_folder_that_cannot_be_written_is_found_before_the_run(tokprof: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = tokprof(*DEMO, "--json", tmp_path / "file" / "out.json")
    assert said.code == 2
    assert "cannot write" in said.err
    assert tokprof(*DEMO, "--json", tmp_path).code == 2


def test_a_real_run_writes_records_and_prints_a_table(tokprof: Callable[..., Said], tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.json"
    said = tokprof(*DEMO, *BRIEF, "--method", "fastv,random", "--json", path)
    assert said.code == 0, said.err
    assert "fastv" in said.out and "random" in said.out and "dense" in said.out
    records = read_records(path).records
    assert [record.policy.method for record in records] == ["fastv", "random"]
    for record in records:
        assert record.policy.tokens.per_layer == record.policy.tokens.planned
        assert record.policy.memory is not None
        assert record.policy.memory.kv_bytes == record.policy.memory.kv_planned_bytes
        assert record.policy.fidelity is not None
        assert record.parity.relative_error is not None and record.parity.relative_error <= 1e-5
        assert record.policy.samples.rounds == record.baseline.samples.rounds == 2


def test_records_on_stdout_are_json(tokprof: Callable[..., Said]) -> None:
    said = tokprof(*DEMO, *BRIEF, "--json", "-", "--no-parity")
    assert said.code == 0, said.err
    assert json.loads(said.out)["kind"] == "tokprof.records"


def test_ctrl_c_keeps_what_was_finished(
    tokprof: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokprof.session import Session

    original, calls = Session.measure, []

    def interrupted(self: Session, ready: object) -> object:
        calls.append(ready)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return original(self, ready)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "measure", interrupted)
    path = tmp_path / "out.json"
    said = tokprof(*DEMO, *BRIEF, "--method", "fastv,random", "--json", path)
    assert said.code == cli.INTERRUPTED
    assert [record.policy.method for record in read_records(path).records] == ["fastv"]


def test_running_out_of_memory_names_the_stage_and_keeps_the_rest(
    tokprof: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from tokprof.session import Bench

    original = Bench.measure

    def hungry(self: Bench, ready: profiler.Ready) -> object:
        if ready.policy.name == "random":
            self.session.stage("random: rounds")
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, ready)

    monkeypatch.setattr(Bench, "measure", hungry)
    path = tmp_path / "out.json"
    said = tokprof(*DEMO, *BRIEF, "--method", "fastv,random", "--json", path)
    assert said.code == 2
    assert "out of memory" in said.err and "random: rounds" in said.err and "--batch" in said.err
    assert [record.policy.method for record in read_records(path).records] == ["fastv"]
    assert "fastv" in said.out


def test_a_device_that_vanishes_is_said_and_keeps_the_rest(
    tokprof: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokprof.session import Bench

    original, path = Bench.measure, tmp_path / "out.json"

    def gone(self: Bench, ready: profiler.Ready) -> object:
        if ready.policy.name == "random":
            self.session.stage("random: measuring")
            raise RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA …")
        return original(self, ready)

    monkeypatch.setattr(Bench, "measure", gone)
    said = tokprof(*DEMO, *BRIEF, "--method", "fastv,random", "--json", path)
    assert said.code == 2 and "Traceback" not in said.err
    assert "failed in random: measuring (random): CUDA error: unspecified launch failure" in said.err
    assert "nvidia-smi" in said.err and "TORCH_USE" not in said.err
    assert [record.policy.method for record in read_records(path).records] == ["fastv"]


def test_budgets_are_solved_from_the_plan(tokprof: Callable[..., Said], tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    said = tokprof("run", "--model", "demo", "--method", "fastv,random", "--tokens", "200", *BRIEF, "--json", path)
    assert said.code == 0, said.err
    for record in read_records(path).records:
        assert abs(record.policy.tokens.layer_mean - 200) <= 4, record.policy.method


def test_a_cancelled_job_cleans_up() -> None:
    """Continuous integration ends a job by SIGTERM: child processes and scratch folders must not stay."""
    script = """
import os, signal
from tokprof import cli
def app(**_):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    finally:
        print("cleaned up")
cli.build_app = lambda: app
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (130, "cleaned up\n") and "Traceback" not in done.stderr
