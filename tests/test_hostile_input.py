"""Hurried and hostile input: one line what is wrong, one what to do, exit 2; no traceback, nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tokprof import cli

FLOPS = ("flops", "--model", "demo", "--method", "fastv")
RUN = ("run", "--model", "demo", "--method", "fastv", "--device", "cpu")


@dataclass
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def tokprof(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Said]:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["tokprof", *(str(argument) for argument in arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return Said(int(stop.value.code or 0), captured.out, captured.err)

    return run


def assert_two_lines(said: Said, expected: str) -> None:
    assert said.code == 2, said.out + said.err
    lines = said.err.splitlines()
    assert len(lines) == 2, said.err
    assert lines[0].startswith("error: ") and lines[1].startswith("  try: "), said.err
    assert expected in said.err
    assert not said.out


SLIPS = {
    "an unknown command": (["runn"], "runn"),
    "an unknown flag": (["flops", "--modle", "demo"], "--modle"),
    "a word for a whole number": ([*FLOPS, "--batch", "many"], "--batch"),
    "one argument too many": (["methods", "fastv", "todre"], "todre"),
    "nan": ([*FLOPS, "--tokens", "nan"], "'nan' is not a number"),
    "beyond infinity": ([*FLOPS, "--keep", "1e400"], "'1e400' is not a number"),
    "an unset variable": (["run", "--model", "", "--method", "fastv"], "--model ''"),
    "a stray comma": ([*FLOPS, "--keep", "0.5,,0.1"], "something is missing"),
    "a method twice": (["run", "--method", "fastv,fastv"], "fastv is there twice"),
    "a parameter twice": ([*FLOPS, "--set", "layer=2", "--set", "layer=3"], "given twice"),
    "a parameter called name": ([*FLOPS, "--set", "name=3"], "no parameter 'name'"),
    "raised digits": ([*FLOPS, "--image-size", "²x²"], "not a size"),
    "a very long name": (["models", "m" * 5000], "m" * 5000),
    "nobody's home": (["models", "~nobody-of-this-name"], "no model"),
    "a seed beyond 64 bits": ([*RUN, "--seed", "9" * 30], "--seed"),
    "an empty budget": ([*RUN, "--match", ""], "--match ''"),
    "a share for the recipe's own methods": (["run", "quickstart", "--keep", "0.5"], "belong to --method"),
    "no name at all": (["methods", ""], "no method ''"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_slips(name: str, tokprof: Callable[..., Said], tmp_path: Path) -> None:
    arguments, expected = SLIPS[name]
    assert_two_lines(tokprof(*arguments), expected)
    assert not list(tmp_path.iterdir()), "something was written"


def test_results_into_a_folder_that_leads_nowhere(tokprof: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert_two_lines(tokprof(*RUN, "--json", "loop/out.json"), "loop is no folder")


CONFIGS = {
    "nested too deeply": "[" * 100_000,
    "no mappings": '{"model_type": "llava", "text_config": [1], "vision_config": "x"}',
    "words for numbers": '{"model_type": "llava", "text_config": {"hidden_size": "wide"}}',
    "no heads": '{"model_type": "llava", "text_config": {"num_attention_heads": 0}}',
    "negative layers": '{"model_type": "llava", "text_config": {"num_hidden_layers": -3}}',
    "patches of nothing": '{"model_type": "llava", "vision_config": {"patch_size": 0}}',
}


@pytest.mark.parametrize("name", CONFIGS)
def test_model_folders_that_cannot_be(name: str, tokprof: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(CONFIGS[name])
    assert_two_lines(tokprof("models", "./model"), "model")


@pytest.mark.parametrize("missing", ["models", "methods", "workloads"])
def test_recipes_of_nothing(missing: str, tokprof: Callable[..., Said], tmp_path: Path) -> None:
    recipe: dict[str, object] = {"models": ["demo"], "methods": ["fastv"], "workloads": [{}], missing: []}
    (tmp_path / "none.yaml").write_text(json.dumps(recipe))
    said = tokprof("run", "none.yaml")
    assert said.code == 2 and f"{missing}: " in said.err and "\n  try: " in said.err


def test_a_recipe_of_brackets_is_refused_at_once(tokprof: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "deep.yaml").write_text("[" * 500_000)
    assert_two_lines(tokprof("run", "deep.yaml"), "nested too deeply")


def test_help_without_a_command(tokprof: Callable[..., Said]) -> None:
    said = tokprof()
    assert said.code == 2 and "Usage: tokprof" in said.out


def shell(command: str) -> subprocess.CompletedProcess[str]:
    command = command.replace("tokprof", f"{sys.executable} -m tokprof")
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": "20"}
    )


def test_a_pipe_that_closes_early_is_no_error() -> None:
    done = shell("tokprof models --json | true; echo ${PIPESTATUS[0]}")
    assert done.stdout.strip() == str(cli.PIPE_CLOSED)
    assert not done.stderr


def test_a_closed_and_a_full_standard_output() -> None:
    assert shell("tokprof models >&-").returncode == 0
    done = shell("tokprof models > /dev/full")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "No space left" in done.stderr and "Traceback" not in done.stderr
