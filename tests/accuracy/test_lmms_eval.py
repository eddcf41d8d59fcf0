"""lmms-eval from end to end on a local task, no network: what it records is what `Responder` says.

`make test-lmms-eval` sets up an environment for this; without lmms-eval it is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lmms_eval", reason="`make test-lmms-eval` installs and runs it")

from tokprof import policies
from tokprof.accuracy.answering import Responder
from tokprof.accuracy.questions import QuestionSet, demo_questions
from tokprof.errors import UnsupportedError
from tokprof.models import load
from tokprof.scores import read_scores

QUESTIONS, NEW_TOKENS = 12, 4
TASK = """\
task: tokprof_local
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function local_task.pictures
doc_to_text: !function local_task.words
doc_to_target: answer
generation_kwargs:
  max_new_tokens: {new_tokens}
  temperature: 0
  do_sample: false
process_results: !function local_task.rated
metric_list:
  - metric: right
    aggregation: mean
    higher_is_better: true
metadata:
  - version: 0.0
"""
FUNCTIONS = """\
from PIL import Image


def pictures(doc):
    return [Image.open(doc["image"]).convert("RGB")]


def words(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def rated(doc, results):
    return {"right": float(results[0].strip().lower() == doc["answer"])}
"""


@pytest.fixture(scope="module")
def asked() -> QuestionSet:
    return demo_questions(QUESTIONS)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, asked: QuestionSet) -> Path:
    folder = tmp_path_factory.mktemp("task")
    lines = []
    for index, question in enumerate(asked.questions):
        picture = folder / f"{index}.png"
        question.pictures()[0].save(picture)
        lines.append({"image": str(picture), "question": question.text, "answer": question.answers[0]})
    data = folder / "questions.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "local_task.py").write_text(FUNCTIONS)
    (folder / "tokprof_local.yaml").write_text(TASK.format(data=data, new_tokens=NEW_TOKENS))
    return folder


def evaluated(task: Path, out: Path, model_args: str, *more: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    command = [sys.executable, "-m", "lmms_eval", "--model", "tokprof", "--model_args", model_args]
    command += ["--tasks", "tokprof_local", "--include_path", str(task), "--batch_size", "4", "--device", "cpu"]
    command += ["--output_path", str(out), "--log_samples", *more]
    offline = {name: "1" for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")}
    environment = {**os.environ, **offline, "HF_HOME": str(out / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=task, check=False)
    return done, out


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.rglob(pattern)
    return found


@pytest.mark.parametrize("method", ["dense", "fastv", "todre"])
def test_the_harness_records_what_the_model_says(task: Path, asked: QuestionSet, tmp_path: Path, method: str) -> None:
    budget: dict[str, Any] = {} if method == "dense" else {"keep": 0.25}
    model_args = ",".join(["pretrained=demo", f"method={method}", *(f"{k}={v}" for k, v in budget.items())])
    done, out = evaluated(task, tmp_path, model_args)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout[done.stdout.index("tokprof (pretrained") :])
    samples = [json.loads(line) for line in only(out, "*samples*.jsonl").read_text().splitlines()]
    said = [sample["filtered_resps"] for sample in sorted(samples, key=lambda sample: int(sample["doc_id"]))]
    (replies,) = Responder(load("demo"), NEW_TOKENS, 4).replies([policies.build(method, **budget)], asked.questions)
    assert said == [reply.said for reply in replies]
    (score,) = read_scores(str(only(out, "*results.json")))
    assert (score.model, score.method, score.budget) == ("demo", method, budget.get("keep"))
    expected = [float(said == asked.answers[0]) for said, asked in zip(said, asked.questions, strict=True)]
    assert score.value == pytest.approx(sum(expected) / len(expected))


def test_a_mistake_in_the_model_args_is_said(task: Path, tmp_path: Path) -> None:
    done, _ = evaluated(task, tmp_path, "pretrained=demo,method=fastvv,keep=0.25")
    assert "there is no method 'fastvv'" in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*results.json"))


def document(options: dict[str, Any], visuals: list[Any], context: str = "What?") -> Any:
    from tokprof.harness.model import _Document
    from tokprof.models.catalog import find

    return _Document(context, options, lambda: visuals, "task, document 3", find("demo"), None)


def test_a_tasks_options_and_pictures(asked: QuestionSet) -> None:
    (picture,) = asked.questions[0].pictures()
    found = document({"max_new_tokens": 8, "until": ["\n", "."]}, [picture, picture], "<image>\nWhich <image>?")
    assert (found.new_tokens, found.samples, found.video, found.sizes) == (8, False, False, (picture.size,) * 2)
    assert found.prompt == "Which ?"
    assert found.until(" red. And blue\n") == "red"
    assert document({"do_sample": True}, [picture]).samples


def test_a_question_without_a_picture_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="task, document 3 shows no picture"):
        _ = document({}, []).sizes
