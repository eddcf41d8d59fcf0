from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.records import make_record
from tokprof.errors import InputError
from tokprof.record import Accuracy
from tokprof.scores import join_scores, read_scores


def test_an_lmms_eval_file_joins_by_model_method_and_budget(tmp_path: Path) -> None:
    results = {"pope": {"alias": "pope", "pope_accuracy,none": 0.861, "pope_accuracy_stderr,none": 0.01}}
    arguments = "pretrained=liuhaotian/llava-v1.6-vicuna-7b,method=fastv,keep=0.25"
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"results": results, "config": {"model_args": arguments}}))
    records = [make_record("fastv", keep=0.25), make_record("fastv", keep=0.1), make_record("vtw", keep=0.25)]
    joined = join_scores(records, read_scores(str(path)))
    assert [record.policy.accuracy and record.policy.accuracy.score for record in joined] == [0.861, None, None]
    assert joined[0].policy.accuracy and "lmms-eval" in joined[0].policy.accuracy.source


def test_several_tasks_are_averaged_relative_to_the_dense_model(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(
        "model,method,keep,task,score\n,dense,,mme,1800\n,dense,,gqa,0.62\n"
        "llava-next-7b,fastv,0.25,mme,1710\nllava-next-7b,fastv,0.25,gqa,0.589\n"
    )
    (record,) = join_scores([make_record("fastv", keep=0.25)], read_scores(str(path)))
    assert record.policy.accuracy and record.policy.accuracy.score == pytest.approx(95.0)
    assert record.baseline.accuracy and record.baseline.accuracy.score == pytest.approx(100.0)


def test_tokens_are_compared_with_the_layer_mean(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("model,method,tokens,task,score\nllava-next-7b,fastv,855,gqa,0.6\n")
    assert join_scores([make_record("fastv", keep=0.25)], read_scores(str(path)))[0].policy.accuracy


def test_published_scores_say_whose_they_are_and_keep_to_their_basis() -> None:
    scores = read_scores("published")
    todre = make_record("todre", keep=0.1, per_layer=[288] * 20 + [0] * 12)
    (joined,) = join_scores([todre], scores)
    assert joined.policy.accuracy is not None
    assert (
        joined.policy.accuracy.source.startswith("published: todre, table 1")
        and "not this run" in joined.policy.accuracy.source
    )
    assert joined.baseline.accuracy and joined.baseline.accuracy.score == 100.0
    other_basis = make_record(
        "v2drop", model="llava-1.5-7b", visual=576, keep=128 / 576, per_layer=[576] * 30 + [128] * 2
    )
    assert join_scores([other_basis], scores)[0].policy.accuracy is None  # its layer mean is not 128


def test_what_was_measured_is_never_replaced() -> None:
    own = Accuracy(source="measured", task="demo", questions=10, correct=9)
    record = make_record("todre", keep=0.1, per_layer=[288] * 32, accuracy=own)
    assert join_scores([record], read_scores("published"))[0].policy.accuracy == own


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("a.json", '{"results": 3}'),
        ("a.json", '{"results": {}}'),
        ("a.csv", ""),
        ("a.csv", "model,method\nx,y\n"),
        ("a.csv", "model,method,keep,task,score\nx,fastv,0.1,gqa,much\n"),
        ("a.csv", "model,method,keep,task,score\nx,fastv,0.1,gqa,nan\n"),
        ("a.csv", "model,method,keep,task,score\nx,fastv,0.1,gqa,\n"),
        ("a.csv", "model,method,keep,task,score\nx,fastv\n"),
        ("a.csv", "model,method,keep,task,score\nx,fastv,0.1,gqa,60,more\n"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError):
        read_scores(str(tmp_path / name))


def test_a_missing_file() -> None:
    with pytest.raises(InputError):
        read_scores("no/such/file.csv")


def test_several_tasks_without_the_dense_model(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("model,method,keep,task,score\n,fastv,0.25,mme,1710\n,fastv,0.25,gqa,0.6\n")
    with pytest.raises(InputError, match="different units"):
        join_scores([make_record("fastv", keep=0.25)], read_scores(str(path)))


def test_a_folder_without_scores(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no"):
        read_scores(str(tmp_path))
