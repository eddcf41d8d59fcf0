"""`tokprof eval` as people type it: a table or JSON on stdout; mistakes in two lines, exit 2, nothing written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from tokprof import cli

Said = tuple[int, str, str]


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
        return code, captured.out, captured.err

    return run


def test_methods_beside_the_unpruned_model(tokprof: Callable[..., Said], tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    code, out, _ = tokprof("eval", "--method", "fastv,random", "--keep", "0.5,0.1", "--limit", "6", "--json", file)
    assert code == 0
    rows = ["dense", "fastv keep=0.5", "fastv keep=0.1", "random keep=0.5", "random keep=0.1"]
    assert all(row in out for row in rows) and "digit" in out and "McNemar" in out
    data = json.loads(file.read_text())
    assert [arm["method"] for arm in data["arms"]] == ["dense", "fastv", "fastv", "random", "random"]
    assert [question["kind"] for question in data["questions"]] == [
        *("existence", "colour", "shape", "where", "count", "digit")
    ]
    means = [arm["visual_tokens_layer_mean"] for arm in data["arms"]]
    assert means[0] == 744 and means[1] > means[2] and means[3] > means[4]


def test_own_questions_to_stdout(tokprof: Callable[..., Said], tmp_path: Path) -> None:
    PIL.Image.new("RGB", (192, 192), "red").save(tmp_path / "red.png")
    lines = [
        {"image": "red.png", "question": "Is there a star?", "answer": "no"},
        {"image": "red.png", "question": "Which colour?", "answer": "A", "choices": ["red", "blue"], "kind": "colour"},
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, _ = tokprof("eval", "--questions", file, "--new-tokens", "3", "--json", "-")
    data = json.loads(out)
    assert code == 0 and data["task"] == "2 questions of mine.jsonl" and len(data["arms"]) == 1
    assert list(data["arms"][0]["by_kind"]) == ["yes-no", "colour"]


MISTAKES = {
    "a file that is not there": (["--questions", "none.jsonl"], "no question file"),
    "an empty file": (["--questions", "{empty}"], "is empty"),
    "a file with mistakes": (["--questions", "{bad}"], "line 1: 'image' is missing"),
    "unknown model": (["--model", "dmeo"], "did you mean demo"),
    "unknown method": (["--method", "fastvv"], "did you mean fastv"),
    "keep of zero": (["--method", "fastv", "--keep", "0"], "keep=0"),
    "a dtype of one's own": (["--dtype", "float8"], "--dtype"),
    "a setting of another method": (["--method", "fastv", "--set", "todre.tau=1"], "not in --method"),
    "a folder for the JSON": (["--json", "{folder}"], "is a folder"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(tokprof: Callable[..., Said], tmp_path: Path, case: str) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "bad.jsonl").write_text('{"question": 3}\n')
    places = {"empty": tmp_path / "empty.jsonl", "bad": tmp_path / "bad.jsonl", "folder": tmp_path}
    arguments, text = MISTAKES[case]
    code, out, err = tokprof("eval", "--limit", "2", *(argument.format(**places) for argument in arguments))
    assert code == 2 and out == ""
    assert err.startswith("error: ") and "try: " in err and text in err and "Traceback" not in err
